"""The report of a lens job: one HTML page that needs nothing but itself."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment

from analysis import wording
from analysis.bars import draw_settling, draw_truth
from analysis.curves import shared_range
from analysis.facts import LensReport, asked_labels, read
from analysis.pages import environment
from analysis.plates import make_plate
from analysis.tallies import tally
from engine.catalog import DEMO_MODEL

LABELS_SHOWN = 12


def write_report(target: Path, report: LensReport) -> None:
    """Write the page of a lens job to `target`.

    Raises:
        ValueError: a picture's maps have another shape than its item says.
    """
    # what a file system took for a name need not be a text: lone surrogates are written as references
    target.write_text(render_report(report), encoding="utf-8", errors="xmlcharrefreplace")


def render_report(report: LensReport) -> str:
    """The page of a lens job as HTML: no script, nothing fetched, light and dark.

    Raises:
        ValueError: a picture's maps have another shape than its item says.
    """
    readings, failures = read(report.pictures)
    asked = asked_labels(report, readings)
    found = tally(readings, asked)
    between = shared_range(readings)
    provenance: Mapping[str, Any] = report.job["provenance"] or {}
    page = _environment().get_template("report.html")
    return page.render(
        title=report.title,
        job=report.job,
        labels=asked,
        prompts=dict(zip(asked, provenance.get("prompts", ()), strict=False)) if report.labels else {},
        labels_shown=LABELS_SHOWN,
        readings=readings,
        failures=failures,
        tally=found,
        settling_chart=draw_settling(found) if found.settled else None,
        truth_chart=draw_truth(found) if found.true_by_layer else None,
        plates=[
            make_plate(number, reading, asked, between)
            for number, reading in enumerate(readings[: report.plates], start=1)
        ],
        pictures=len(report.pictures),
        even_cosine=_even_cosine(provenance),
        is_demo=report.job["model"] == DEMO_MODEL,
        provenance=provenance,
        origin=list(_flat(provenance)),
    )


def _environment() -> Environment:
    return environment(
        {
            "signed": wording.signed,
            "probability": wording.probability,
            "percent": wording.percent,
            "shorten": wording.shorten,
            "span": wording.span,
            "moment": _moment,
        }
    )


def _even_cosine(provenance: Mapping[str, Any]) -> float | None:
    """The cosine at which the match probability of this checkpoint is one half."""
    if "logit_scale" not in provenance:
        return None
    return float(-provenance["logit_bias"] / provenance["logit_scale"])


def _flat(facts: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Names and values of nested facts; prompts are listed elsewhere."""
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        elif name != "prompts":
            text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
            yield above + name, text


def _moment(text: str) -> str:
    """A time of the API for people, in UTC."""
    moment = datetime.fromisoformat(text).astimezone(UTC)
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"
