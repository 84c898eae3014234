"""What is asked of a lens where its cost is measured, on a CPU and on a GPU."""

from typing import Any, Final

LABELS: Final = ["red circle", "blue star", "green heart", "yellow ring"]
OUTPUTS: Final[dict[str, dict[str, Any]]] = {
    "pooled": {"outputs": ("pooled",)},
    "pooled + patch value, all layers": {
        "outputs": ("patch",),
        "patch_layers": "all",
        "patch_method": "value",
    },
    "pooled + patch head, last layer": {"outputs": ("patch",)},
    "pooled + probe_attention, all layers": {"outputs": ("probe_attention",), "patch_layers": "all"},
    "pooled + contribution, all layers": {"outputs": ("contribution",), "patch_layers": "all"},
    "pooled + token_norms, all layers": {"outputs": ("token_norms",), "patch_layers": "all"},
    "pooled + embeddings": {"outputs": ("embeddings",)},
}
