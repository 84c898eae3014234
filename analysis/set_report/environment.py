"""What pages about image sets are rendered with."""

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment

from analysis import pages
from analysis.set_report import figures
from analysis.wording import shorten


def environment() -> Environment:
    """That of every page, with the figures of sets."""
    return pages.environment(
        {
            "per_cent": figures.per_cent,
            "whole": figures.whole,
            "points": figures.points,
            "count": figures.count,
            "decimal": figures.decimal,
            "p_value": figures.p_value,
            "size": figures.size,
            "shorten": shorten,
        }
    )


def flat(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A model's facts by name; those that are not known are left out."""
    return [(name, str(value)) for name, value in model.items() if value is not None]
