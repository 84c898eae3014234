"""Two jobs over image sets side by side, as the work of an analyst: comparisons and drifts."""

import uuid
from typing import Any

from jobs import queries
from jobs.errors import ResultsExpiredError
from jobs.leases import Unit
from jobs.objects import ObjectName
from models.image_set import ImageSetVersion
from models.job import Job
from worker.analyst_runtime import Analyst
from worker.passage import Passage


def compare_jobs(analyst: Analyst, unit: Unit, passage: Passage) -> dict[str, Any]:
    """Compare the two jobs that the unit names; the payload says which files there are.

    Raises:
        ResultsExpiredError: results of one were removed meanwhile.
        IncomparableError: what they left is of different versions or labels.
        DomainError: nothing of one succeeded, or its tables are gone.
    """
    # only where one is made: scikit-learn and its like take seconds to import
    from analysis.comparing import write_comparison  # noqa: PLC0415

    pair = _both(analyst, unit, "other_job_id")
    truth, seed = unit.options["same_truth"], unit.options["seed"]
    return write_comparison(
        analyst.sessions, analyst.blobs, pair, truth, _place(unit), passage.step, seed=seed
    )


def measure_drift(analyst: Analyst, unit: Unit, passage: Passage) -> dict[str, Any]:
    """Measure the drift between the versions of two jobs; the payload says which files there are.

    Raises:
        ResultsExpiredError: results of one were removed meanwhile.
        IncomparableError: they are of models with different weights.
        DomainError: nothing of one succeeded, or its tables are gone.
    """
    from analysis.drifting import write_drift  # noqa: PLC0415 - likewise

    pair = _both(analyst, unit, "reference_job_id")
    return write_drift(
        analyst.sessions, analyst.blobs, pair, _place(unit), passage.step, seed=unit.options["seed"]
    )


def readable_job(analyst: Analyst, named: str) -> Job:
    """A job over a set whose results, and whose set, are still there.

    Raises:
        ResultsExpiredError: one of them was removed meanwhile, or is about to be.
    """
    with analyst.sessions() as session:
        job = session.get(Job, uuid.UUID(named))
        if job is None or not session.scalar(queries.is_kept(job.id)):
            raise ResultsExpiredError(f"The results of job_{uuid.UUID(named).hex} were removed meanwhile.")
        if session.get(ImageSetVersion, job.version_id) is None:
            raise ResultsExpiredError(f"The image set that job_{job.id.hex} is over was deleted meanwhile.")
        return job


def _both(analyst: Analyst, unit: Unit, second: str) -> tuple[Job, Job]:
    first, other = (readable_job(analyst, unit.options[name]) for name in ("job_id", second))
    return first, other


def _place(unit: Unit) -> ObjectName:
    # a lease is one try: what a worker that was lost has written is nobody's
    return ObjectName(unit.tenant, unit.job_id, uuid.uuid4())
