"""The work of a drift: from the tables of jobs over two versions to files that are kept."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from sqlalchemy.orm import Session, sessionmaker

from analysis.set_report.pair_pages import drifted_items, render_drift
from analysis.sets.drift import measure_drift
from analysis.sets.facts import SetFacts
from analysis.sets.notes import Notes
from analysis.sets.schema_documents import DriftDocument, side_of
from analysis.two_jobs import Sources
from jobs.blobs import BlobStore
from jobs.objects import ObjectName
from models.job import Job

PREFIX: Final = "lensqueue-drift-"
DRIFT: Final = "drift.json"


def write_drift(
    sessions: sessionmaker[Session],
    blobs: BlobStore,
    jobs: tuple[Job, Job],
    name: ObjectName,
    step: Callable[[], None] = lambda: None,
    *,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure the first job's version from the second's; returns the payload of the item, as of a comparison.

    `step` is called now and then, and may raise to end it: nothing is kept then.

    Raises:
        IncomparableError: the two are of models with different weights.
        NothingToSummariseError: nothing of one succeeded.
        ResultsExpiredError, NumbersMissingError: results of one were removed.
        BlobStoreFullError: the disk or its quota is full.
    """
    sources = Sources(sessions, blobs, step)
    with tempfile.TemporaryDirectory(prefix=PREFIX) as scratch:
        facts, reference = (
            sources.read(job, Path(scratch) / f"arrays-{place}", seed) for place, job in enumerate(jobs)
        )
        document = describe_drift(facts, reference)
        step()
        wanted = zip(jobs, drifted_items(document), strict=True)
        now, before = (sources.thumbnails(job, indexes).get for job, indexes in wanted)
        title, reference_title = (sources.title(job.version_id) for job in jobs)
        page = render_drift(document, now, before, title=title, reference_title=reference_title)
        files = sources.keep(name, Path(scratch) / "made", {DRIFT: document}, page)
        return {"files": files, "headline": _headline(document)}


def describe_drift(facts: SetFacts, reference: SetFacts) -> DriftDocument:
    """All that is said of how far one version lies from another.

    Raises:
        IncomparableError: the two are embedded by different models.
    """
    notes = Notes()
    drift = measure_drift(facts, reference, notes)
    return DriftDocument(
        job=side_of(facts),
        reference=side_of(reference),
        drift=drift,
        warnings=notes.said,
        seed=facts.seed,
    )


def _headline(document: DriftDocument) -> dict[str, Any]:
    drift = document.drift
    told: dict[str, Any] = {"warnings": len(document.warnings)}
    if drift is None:
        return told
    return {
        **told,
        "images": drift.n,
        "reference_images": drift.reference_n,
        "mmd2": drift.mmd2,
        "p": drift.p,
        "null_q95": drift.null_q95,
        "auroc": None if drift.classifier is None else drift.classifier.auroc,
        "class_mix_changed": None if drift.class_mix is None else drift.class_mix.changed,
    }
