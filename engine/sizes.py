"""How large what a lens gives is, before it is run; imports no torch, so that a job can be quoted."""

from typing import Final

from engine.errors import OutputTooLargeError
from engine.plan import LensPlan

ACTIVATION_BYTES: Final = 2**30
"""Hidden states that one call of `lens` hands out may take so much, and twice as much while it joins them."""
FLOAT32_BYTES: Final = 4


def output_bytes(plan: LensPlan, *, width: int, heads: int, kept: int) -> dict[str, int]:
    """The bytes of one picture's arrays, by the outputs that were asked for beside the pooled lens.

    All are float32: what an engine computes in bfloat16 is widened. `heads` are those of the pooling
    attention, `kept` the labels whose scores are handed out, see `engine.lens.Lens`.
    """
    token_layers, maps = len(plan.patch_layers or ()), len(plan.patch_layers or ()) * plan.patch_tokens
    numbers = {
        "patch": maps * kept,
        "probe_attention": maps * heads,
        # with the biases' and the MLP's share of each label
        "contribution": (maps + 2 * token_layers) * kept,
        "token_norms": maps,
        "embeddings": len(plan.layers) * width,
        "activations": activation_bytes(plan, width) // FLOAT32_BYTES,
    }
    return {name: size * FLOAT32_BYTES for name, size in numbers.items() if name in plan.outputs}


def activation_bytes(plan: LensPlan, width: int) -> int:
    """The bytes of one picture's hidden states, of the layers and tokens that were asked for."""
    tokens = plan.patch_tokens if plan.activation_tokens is None else len(plan.activation_tokens)
    return len(plan.activation_layers or ()) * tokens * width * FLOAT32_BYTES


def check_activations(plan: LensPlan, width: int, images: int) -> None:
    """Refuse to gather hidden states of so many pictures.

    Raises:
        OutputTooLargeError: they take more than ACTIVATION_BYTES.
    """
    each = activation_bytes(plan, width)
    if each * images > ACTIVATION_BYTES:
        raise OutputTooLargeError(
            f"The activations of {images} pictures take {each * images} bytes, {each} each, and one call"
            f" gives {ACTIVATION_BYTES} at most: take fewer pictures a call, or fewer `activation_layers` or"
            " `activation_tokens`."
        )
