"""Which layers and tokens a lens reads; imports no torch, so that a job can be checked first."""

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, SupportsIndex, TypeGuard

from engine.errors import InvalidArgumentError

LayerChoice = str | Mapping[str, int] | Sequence[SupportsIndex]
TokenChoice = str | Sequence[SupportsIndex]


def resolve_layers(layers: LayerChoice, depth: int, argument: str = "layers") -> tuple[int, ...]:
    """The asked layers, ascending: "all" is 0..L, {"every": k} is {l >= 1 : l % k == 0} and L, or a list.

    `depth` is L, the number of blocks; `argument` is what the caller calls this choice.

    Raises:
        InvalidArgumentError: anything else, or a layer outside 0..L.
    """
    # an array would compare with "all" element by element
    if isinstance(layers, str) and layers == "all":
        return tuple(range(depth + 1))
    if isinstance(layers, Mapping):
        step = layers.get("every")
        if set(layers) == {"every"} and _is_integer(step) and step >= 1:
            return tuple(sorted({*range(int(step), depth + 1, int(step)), depth}))
    elif _is_list(layers) and len(layers) > 0 and all(map(_is_integer, layers)):
        chosen = sorted({int(layer) for layer in layers})
        outside = [layer for layer in chosen if not 0 <= layer <= depth]
        if outside:
            raise InvalidArgumentError(
                argument, f"{outside[0]} is not a layer; this checkpoint has 0..{depth}"
            )
        return tuple(chosen)
    raise InvalidArgumentError(
        argument,
        f'expected "all", {{"every": k}} with k >= 1, or a list of layers in 0..{depth}, not {layers!r}',
    )


def resolve_tokens(
    tokens: TokenChoice, count: int, argument: str = "activation_tokens"
) -> tuple[int, ...] | None:
    """The asked tokens of `count`, ascending, row by row from the top left; None for "all" of them.

    Raises:
        InvalidArgumentError: neither "all" nor a list, or a token outside 0..count-1.
    """
    if isinstance(tokens, str) and tokens == "all":
        return None
    if not _is_list(tokens) or isinstance(tokens, str) or not tokens or not all(map(_is_integer, tokens)):
        raise InvalidArgumentError(
            argument, f'expected "all" or a list of tokens in 0..{count - 1}, not {tokens!r}'
        )
    chosen = sorted({int(token) for token in tokens})
    outside = [token for token in chosen if not 0 <= token < count]
    if outside:
        raise InvalidArgumentError(
            argument, f"{outside[0]} is not a token; this checkpoint has 0..{count - 1}"
        )
    return tuple(chosen)


def _is_list(value: object) -> TypeGuard[Sequence[Any]]:
    # bytes are a sequence of whole numbers too, and never meant as one
    return isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray))


def _is_integer(value: object) -> TypeGuard[int]:
    # numpy's too: layers are often taken out of an array, `settle_layer` for one
    return isinstance(value, Integral) and not isinstance(value, bool)
