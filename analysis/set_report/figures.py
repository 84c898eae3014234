"""Numbers of a set as a reader sees them: none is rounded to what it is not."""

from typing import Final

from analysis.wording import EN_DASH, MINUS

THIN: Final = "\u202f"
KILO: Final = 1000
TINY_P: Final = 0.001


def per_cent(share: float | None, digits: int = 1) -> str:
    """A share of 0..1 in per cent; "<0.1 %" of what is more than nothing, ">99.9 %" of what is not all."""
    if share is None:
        return EN_DASH
    return f"{_bounded(100 * share, digits)}{THIN}%"


def whole(share: float) -> str:
    """A share of 0..1 in whole per cent without its unit, for a cell of a heat table."""
    return _bounded(100 * share, 0)


def points(difference: float | None) -> str:
    """A difference of shares in percentage points, with its sign."""
    if difference is None:
        return EN_DASH
    text = f"{100 * difference:+.1f}"
    return text[1:] if float(text) == 0 else text.replace("-", MINUS)


def count(number: int) -> str:
    """A number of things, in groups of three digits."""
    return f"{number:,}"


def decimal(value: float | None, digits: int = 2) -> str:
    """A number with a true minus; a dash for none."""
    if value is None:
        return EN_DASH
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", MINUS)


def p_value(p: float | None) -> str:
    """A p-value to three decimals, or that it is less."""
    if p is None:
        return EN_DASH
    return f"<{TINY_P}" if p < TINY_P else f"{p:.3f}"


def size(size_bytes: int) -> str:
    """A file's size in the unit that suits it."""
    value, units = float(size_bytes), ["B", "kB", "MB", "GB"]
    while value >= KILO and len(units) > 1:
        value /= KILO
        units.pop(0)
    return f"{value:.0f}{THIN}{units[0]}" if units[0] == "B" else f"{value:.1f}{THIN}{units[0]}"


def _bounded(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}"
    least = 10.0**-digits
    if value > 0 and float(text) == 0:
        return f"<{least:.{digits}f}"
    if value < 100 <= float(text):  # noqa: PLR2004 - all, in per cent
        return f">{100 - least:.{digits}f}"
    return text
