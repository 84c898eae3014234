"""The options of each type of job: what is read of its pictures, and how."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PlainValidator, WithJsonSchema

from api.schemas.labels import Prompt
from api.schemas.wire import Wire, whole
from engine.catalog import DEFAULT_TEMPLATE
from engine.plan import OUTPUTS

MAX_LAYERS = 1_000
"""No checkpoint has so many."""
MAX_TOKENS = 10_000
"""Nor so many patches."""


def _template(value: str) -> str:
    if value.count("{}") != 1:
        raise ValueError("a template holds {} exactly once, where the label goes")
    return value


def _outputs(value: list[str]) -> list[str]:
    if len(set(value)) < len(value):
        raise ValueError("an output is named twice")
    # in one order: single items that ask for the same may share a forward pass
    return [output for output in OUTPUTS if output == "pooled" or output in value]


def _layers(value: Any) -> Any:
    # one rule for the three shapes: a union would answer with the faults of each
    if value == "all":
        return value
    if isinstance(value, dict) and set(value) == {"every"} and _is_layer(value["every"]) and value["every"]:
        return {"every": whole(value["every"])}
    if isinstance(value, list) and 1 <= len(value) <= MAX_LAYERS and all(map(_is_layer, value)):
        return [whole(layer) for layer in value]
    raise ValueError('give "all", {"every": k} with k from 1, or a list of layers like [0, 6, 12]')


def _tokens(value: Any) -> Any:
    if value == "all":
        return value
    if isinstance(value, list) and 1 <= len(value) <= MAX_TOKENS and all(map(_is_token, value)):
        return [whole(token) for token in value]
    raise ValueError('give "all" or a list of tokens like [0, 364], row by row from the top left')


def _is_layer(value: Any) -> bool:
    return isinstance(whole(value), int) and not isinstance(value, bool) and 0 <= value <= MAX_LAYERS


def _is_token(value: Any) -> bool:
    return isinstance(whole(value), int) and not isinstance(value, bool) and 0 <= value < MAX_TOKENS


Template = Annotated[
    Prompt,
    AfterValidator(_template),
    Field(json_schema_extra={"pattern": r"^(?:(?!\{\})[\s\S])*\{\}(?:(?!\{\})[\s\S])*$"}),
]
Output = Literal[
    "pooled", "patch", "probe_attention", "contribution", "token_norms", "embeddings", "activations"
]
Outputs = Annotated[
    list[Output],
    Field(
        min_length=1,
        max_length=len(OUTPUTS),
        fail_fast=True,
        json_schema_extra={"uniqueItems": True},
    ),
    AfterValidator(_outputs),
]
Tokens = Annotated[
    str | list[int],
    PlainValidator(_tokens),
    WithJsonSchema(
        {
            "title": "Tokens",
            "description": "All of them, or a list; token n is the patch of row n // cols, column n % cols.",
            "anyOf": [
                {"const": "all"},
                {
                    "type": "array",
                    "items": {"type": "integer", "minimum": 0, "maximum": MAX_TOKENS - 1},
                    "minItems": 1,
                    "maxItems": MAX_TOKENS,
                },
            ],
        }
    ),
]
Layers = Annotated[
    str | dict[str, int] | list[int],
    PlainValidator(_layers),
    WithJsonSchema(
        {
            "title": "Layers",
            "description": "All 0..L, every k-th from k on and L, or a list of layers; 0 is the embeddings.",
            "anyOf": [
                {"const": "all"},
                {
                    "type": "object",
                    "properties": {"every": {"type": "integer", "minimum": 1, "maximum": MAX_LAYERS}},
                    "required": ["every"],
                    "additionalProperties": False,
                },
                {
                    "type": "array",
                    "items": {"type": "integer", "minimum": 0, "maximum": MAX_LAYERS},
                    "minItems": 1,
                    "maxItems": MAX_LAYERS,
                },
            ],
        }
    ),
]
Pixels = Annotated[
    Literal["exact", "draft"],
    Field(
        description="`exact`: bit for bit what the checkpoint's own processor reads. `draft`: large JPEGs are"
        " decoded at a fraction of their size, several times faster and some levels of 255 off."
    ),
]


UseCache = Annotated[
    bool,
    Field(
        description="Of a job over an image set: take over the numbers of pictures that an earlier job of"
        " yours has computed in the very same way; items say so by `cached`. Else all are computed again."
    ),
]


class LensOptions(Wire):
    """How a logit lens reads the layers.

    A lens asks what the final head reads at a layer; low scores do not show absence, no lens is causal
    evidence.
    """

    template: Template = Field(DEFAULT_TEMPLATE, description="Turns a label into a prompt; holds {} once.")
    outputs: Outputs = Field(
        ["pooled"],
        description="The pooled lens is always given: it says which label is on top. Of patches, at"
        " `patch_layers`: `patch` (each alone through the head), `probe_attention` (what each head of the"
        " pooling attention takes of it), `contribution` (its share of the pooled score), `token_norms`."
        " `embeddings` are what the pooled lens scores, at `layers`; `activations` the hidden states at"
        " `activation_layers`.",
    )
    layers: Layers = Field("all", description="Of the pooled lens.")
    patch_layers: Layers | None = Field(
        None, description="Of all that is read of patches; null is the last layer only."
    )
    patch_method: Literal["head", "value"] = Field(
        "head",
        description="Each patch through the whole head; or `value`, without its MLP: far cheaper, to compare"
        " patches with each other only.",
    )
    pixels: Pixels = "exact"
    activation_layers: Layers | None = Field(
        None, description="Of the activations; null is the last layer only, as it is before the final norm."
    )
    activation_tokens: Tokens | None = Field(None, description="Of the activations; null is all of them.")
    softmax: bool = Field(
        False,
        description="Give the softmax of the logits too, across the labels that are texts; null of others.",
    )
    uncalibrated: bool = Field(
        False,
        description="Give logits, by the scale and bias that were fitted to the last layer, of all `layers`.",
    )
    use_cache: UseCache = True


class EmbeddingOptions(Wire):
    """How embeddings are returned."""

    normalize: bool = Field(True, description="L2-normalise each embedding.")
    pixels: Pixels = "exact"
    use_cache: UseCache = True


class RescoreOptions(Wire):
    """How kept embeddings are scored, at every layer that was kept."""

    template: Template = Field(DEFAULT_TEMPLATE, description="Turns a label into a prompt; holds {} once.")
    softmax: bool = Field(
        False,
        description="Give the softmax of the logits too, across the labels that are texts; null of others.",
    )
    uncalibrated: bool = Field(
        False, description="Give logits, by the scale and bias that were fitted to the last layer, of all."
    )
