"""Numbers and names as a reader sees them."""

import math
import unicodedata
from collections.abc import Sequence
from itertools import groupby

from analysis.facts import Reading

MINUS = "\N{MINUS SIGN}"
ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"
EN_DASH = "\N{EN DASH}"
ZERO_WIDTH_JOINER = "\u200d"
JOINERS = frozenset(f"{ZERO_WIDTH_JOINER}\ufe0e\ufe0f")
SKIN_TONES = range(0x1F3FB, 0x1F400)


def signed(value: float, digits: int = 2) -> str:
    """A cosine or logit with its sign, set with a true minus; zero has none; a dash where there is none."""
    if math.isnan(value):
        return EN_DASH
    text = f"{value:+.{digits}f}"
    if float(text) == 0:
        return text[1:]
    return text.replace("-", MINUS)


def exact(value: float) -> str:
    """A cosine or logit to copy out of a table: four decimals, a plain hyphen for minus; a dash for none."""
    return EN_DASH if math.isnan(value) else f"{value:+.4f}"


ROUNDS_TO_ONE = 0.9995
"""From here on three significant digits say 1."""


def probability(value: float) -> str:
    """A probability to three significant digits, never rounded up to 1; a dash where there is none."""
    if math.isnan(value):
        return EN_DASH
    return f"{value:.3g}" if value < ROUNDS_TO_ONE else f"{min(value, 0.999999):.6f}"


def percent(share: float) -> str:
    """A share of 0..1 in whole per cent, with a narrow no-break space."""
    return f"{100 * share:.0f}\u202f%"


def shorten(text: str, columns: int) -> str:
    """A text of at most so many columns, without its middle, since labels of one set often begin alike.

    Chinese, Japanese, Korean letters and emoji take two columns; no emoji or accented letter is cut apart.
    """
    clusters = _clusters(" ".join(text.split()))
    if sum(map(_columns, clusters)) <= columns:
        return "".join(clusters)
    tail = _fitting(clusters[::-1], columns // 3)[::-1]
    head = _fitting(clusters, columns - 1 - columns // 3)
    return "".join(head).rstrip() + ELLIPSIS + "".join(tail).lstrip()


def layer_runs(layers: Sequence[int], top_by_layer: Sequence[str]) -> list[tuple[str, str]]:
    """Who was on top from where to where: [(label, "2-5"), ...] with an en dash."""
    runs = []
    for label, run in groupby(zip(layers, top_by_layer, strict=True), key=lambda pair: pair[1]):
        among = [layer for layer, _ in run]
        runs.append((label, span(among)))
    return runs


def span(layers: Sequence[int]) -> str:
    """First to last of some layers."""
    return str(layers[0]) if layers[0] == layers[-1] else f"{layers[0]}{EN_DASH}{layers[-1]}"


def settling(reading: Reading) -> str:
    """From which layer the final answer stays, said of the label that is named before."""
    last = reading.layers[-1]
    if reading.settle_layer is None:
        return "From which layer it stays on top is not known: that needs every layer."
    if reading.settle_layer == reading.layers[0]:
        return f"It is on top at every layer, from {reading.layers[0]} to {last}."
    if reading.settle_layer == last and reading.top in reading.top_by_layer[:-1]:
        return f"It leads at earlier layers too, but for good only at the last, {last}."
    if reading.settle_layer == last:
        return f"It comes on top only at the last layer, {last}."
    return f"It is on top from layer {reading.settle_layer} of {last} on, and stays."


def _clusters(text: str) -> list[str]:
    """What a reader takes for characters: a letter with its accents, an emoji with what is joined to it."""
    clusters: list[str] = []
    for character in text:
        joined = bool(clusters) and (
            character in JOINERS
            or unicodedata.category(character) in {"Mn", "Me"}
            or ord(character) in SKIN_TONES
            or clusters[-1].endswith(ZERO_WIDTH_JOINER)
        )
        if joined:
            clusters[-1] += character
        else:
            clusters.append(character)
    return clusters


def _columns(cluster: str) -> int:
    return 2 if unicodedata.east_asian_width(cluster[0]) in {"W", "F"} else 1


def _fitting(clusters: Sequence[str], columns: int) -> list[str]:
    """As many of the first clusters as fit."""
    taken: list[str] = []
    for cluster in clusters:
        columns -= _columns(cluster)
        if columns < 0:
            break
        taken.append(cluster)
    return taken
