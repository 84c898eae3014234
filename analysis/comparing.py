"""The work of a comparison: from the tables of two jobs over a version to files that are kept."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from sqlalchemy.orm import Session, sessionmaker

from analysis.set_report.pair_pages import compared_items, render_comparison
from analysis.sets.comparison import compare_pairs, pair
from analysis.sets.discordance import tell_discordant
from analysis.sets.facts import SetFacts
from analysis.sets.notes import Notes
from analysis.sets.schema_documents import ComparisonDocument, side_of
from analysis.sets.summary import study
from analysis.two_jobs import Sources
from jobs.blobs import BlobStore
from jobs.objects import ObjectName
from models.job import Job

PREFIX: Final = "lensqueue-comparison-"
COMPARISON: Final = "comparison.json"


def write_comparison(
    sessions: sessionmaker[Session],
    blobs: BlobStore,
    jobs: tuple[Job, Job],
    same_truth: Mapping[str, str] | None,
    name: ObjectName,
    step: Callable[[], None] = lambda: None,
    *,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare the first job with the second; returns the payload of its item: files, and what counts most.

    `step` is called now and then, and may raise to end it: nothing is kept then.

    Raises:
        IncomparableError: the two are of different versions or labels.
        NothingToSummariseError: nothing of one succeeded.
        ResultsExpiredError, NumbersMissingError: results of one were removed.
        BlobStoreFullError: the disk or its quota is full.
    """
    sources = Sources(sessions, blobs, step)
    with tempfile.TemporaryDirectory(prefix=PREFIX) as scratch:
        facts, other = (
            sources.read(job, Path(scratch) / f"arrays-{place}", seed) for place, job in enumerate(jobs)
        )
        document = describe_comparison(facts, other, same_truth, step)
        pictures = sources.thumbnails(jobs[0], compared_items(document))
        page = render_comparison(document, pictures.get, title=sources.title(jobs[0].version_id))
        files = sources.keep(name, Path(scratch) / "made", {COMPARISON: document}, page)
        return {"files": files, "headline": _headline(document)}


def describe_comparison(
    facts: SetFacts,
    other: SetFacts,
    same_truth: Mapping[str, str] | None = None,
    step: Callable[[], None] = lambda: None,
) -> ComparisonDocument:
    """All that is said of two jobs over one version.

    Raises:
        IncomparableError: the versions differ, or the names do and nothing says which mean the same.
    """
    notes = Notes()
    studied = study(facts)
    step()
    pairs = pair(facts, studied, other, notes, same_truth)
    step()
    only_this, only_other = tell_discordant(facts, studied, other, pairs)
    comparison = compare_pairs(facts, other, pairs)
    step()
    return ComparisonDocument(
        job=side_of(facts),
        other=side_of(other),
        same_truth=None if same_truth is None else dict(same_truth),
        comparison=comparison,
        only_this=only_this,
        only_other=only_other,
        warnings=[*studied.notes.said, *notes.said],
        seed=facts.seed,
    )


def _headline(document: ComparisonDocument) -> dict[str, Any]:
    compared = document.comparison
    told = {"images": compared.n, "left_out": compared.left_out, "warnings": len(document.warnings)}
    if not compared.layers:
        return told
    end = compared.layers[-1]
    final = ("top1", "other_top1", "difference", "ci_low", "ci_high", "p")
    return {**told, **{name: getattr(end, name) for name in final}}
