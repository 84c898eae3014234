"""Which of several media types a client would rather have (RFC 9110, 12.5.1)."""

from collections.abc import Sequence

from api.errors import NotAcceptableError


def choose(accept: Sequence[str] | None, offered: Sequence[str]) -> str:
    """The best of the offered types by the header's lines; the first of those that are equally good.

    Raises:
        NotAcceptableError: none of them will do.
    """
    ranges = [parsed for line in accept or () for member in line.split(",") if (parsed := _parse(member))]
    if not ranges:
        return offered[0]
    best = max(offered, key=lambda media_type: _quality(media_type, ranges))
    if not _quality(best, ranges):
        raise NotAcceptableError(f"This comes as {', '.join(offered)}.")
    return best


def _parse(member: str) -> tuple[str, float] | None:
    """A media range and its weight; None for what is neither, which is ignored."""
    name, *parameters = (part.strip().lower() for part in member.split(";"))
    kind, slash, _ = name.partition("/")
    if not kind or not slash:
        return None
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                # written so that what is no number has no weight
                return name, min(max(float(parameter[2:]), 0.0), 1.0)
            except ValueError:
                return None
    return name, 1.0


def _quality(media_type: str, ranges: Sequence[tuple[str, float]]) -> float:
    """By the range that names it most closely."""
    for name in (media_type, f"{media_type.partition('/')[0]}/*", "*/*"):
        found = [quality for range_, quality in ranges if range_ == name]
        if found:
            return max(found)
    return 0.0
