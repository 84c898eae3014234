"""Which layers a lens reads; imports no torch, so that a job can be checked before it is queued."""

from collections.abc import Mapping, Sequence
from typing import TypeGuard

from engine.errors import InvalidArgumentError

LayerChoice = str | Mapping[str, int] | Sequence[int]


def resolve_layers(layers: LayerChoice, depth: int) -> tuple[int, ...]:
    """The asked layers, ascending: "all" is 0..L, {"every": k} is {l >= 1 : l % k == 0} and L, or a list.

    `depth` is L, the number of blocks.

    Raises:
        InvalidArgumentError: anything else, or a layer outside 0..L.
    """
    if layers == "all":
        return tuple(range(depth + 1))
    if isinstance(layers, Mapping):
        step = layers.get("every")
        if set(layers) == {"every"} and _is_integer(step) and step >= 1:
            return tuple(sorted({*range(step, depth + 1, step), depth}))
    elif isinstance(layers, Sequence) and len(layers) > 0 and all(map(_is_integer, layers)):
        chosen = sorted({int(layer) for layer in layers})
        outside = [layer for layer in chosen if not 0 <= layer <= depth]
        if outside:
            raise InvalidArgumentError(
                "layers", f"{outside[0]} is not a layer; this checkpoint has 0..{depth}"
            )
        return tuple(chosen)
    raise InvalidArgumentError(
        "layers",
        f'expected "all", {{"every": k}} with k >= 1, or a list of layers in 0..{depth}, not {layers!r}',
    )


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
