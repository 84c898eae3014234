"""The work of a summary: from the tables of a job over a set to files that are kept, and a headline."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy.orm import Session, sessionmaker

from analysis.set_report.page import write_set_report
from analysis.set_report.picks import wanted_items
from analysis.set_report.supplement import supplement_of
from analysis.sets.beside import BesideFacts
from analysis.sets.facts import SetFacts
from analysis.sets.findings import MEDIA_TYPES, write_findings
from analysis.sets.reading import read_facts
from analysis.sets.schema import Summary
from analysis.two_jobs import Sources
from jobs.blobs import BlobStore
from jobs.files import keep_files, made_file
from jobs.objects import ObjectName
from models.image_set import ImageSet, ImageSetVersion
from models.job import Job

PREFIX: Final = "lensqueue-summary-"
REPORT: Final = "report.html"
FILES: Final = {**MEDIA_TYPES, REPORT: "text/html"}


@dataclass(frozen=True, slots=True)
class Beside:
    """Another job over the same version, and one over another version, each if there is one."""

    other: Job | None = None
    same_truth: Mapping[str, str] | None = None
    reference: Job | None = None


ALONE: Final = Beside()


def summarise(
    sessions: sessionmaker[Session],
    blobs: BlobStore,
    job: Job,
    name: ObjectName,
    step: Callable[[], None] = lambda: None,
    seed: int = 0,
    beside: Beside = ALONE,
) -> dict[str, Any]:
    """Summarise a job over a set; returns the payload of the summary's item: its files, and what counts most.

    `step` is called now and then, and may raise to end it: nothing is kept then.

    Raises:
        NothingToSummariseError: nothing of the job succeeded.
        ResultsExpiredError, NumbersMissingError: results of the job were removed.
        BlobStoreFullError: the disk or its quota is full.
        IncomparableError: the job cannot be set beside another one.
    """
    with tempfile.TemporaryDirectory(prefix=PREFIX) as scratch:
        arrays, made = Path(scratch) / "arrays", Path(scratch) / "made"
        arrays.mkdir()
        made.mkdir()
        facts = read_facts(sessions, blobs, job, arrays, step, seed)
        sources = Sources(sessions, blobs, step)
        other, reference = (
            None if each is None else sources.read(each, Path(scratch) / f"beside-{place}", seed)
            for place, each in enumerate((beside.other, beside.reference))
        )
        summary = write_findings(facts, made, step, BesideFacts(other, beside.same_truth, reference))
        _write_report(sources, job, facts, summary, made / REPORT)
        hashed = {export.name: export.sha256 for export in summary.exports}
        files = [
            made_file(made / each, type_, hashed.get(each))
            for each, type_ in FILES.items()
            if (made / each).exists()
        ]
        step()
        return {"files": keep_files(blobs, name, files), "headline": _headline(summary)}


def _write_report(sources: Sources, job: Job, facts: SetFacts, summary: Summary, target: Path) -> None:
    with sources.sessions() as session:
        version = session.get(ImageSetVersion, job.version_id)
        image_set = version and session.get(ImageSet, version.set_id)
    thumbnails = sources.thumbnails(job, wanted_items(summary))
    title = image_set.name if image_set else "Image set"
    beside = supplement_of(facts, summary, target.parent, thumbnails.get)
    write_set_report(target, summary, thumbnails.get, beside, title=title)


def _headline(summary: Summary) -> dict[str, Any]:
    last = summary.layers[-1]
    return {
        "items": summary.counts.total,
        "failed": summary.counts.failed,
        "labelled": last.n or last.auroc_n,
        "top1": last.top1,
        "ci_low": last.ci_low,
        "ci_high": last.ci_high,
        "warnings": len(summary.warnings),
    }
