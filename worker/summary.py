"""A summary of a job over an image set, as the work of an analyst."""

import uuid
from typing import Any

from jobs.errors import ResultsExpiredError
from jobs.leases import Unit
from jobs.objects import ObjectName
from jobs.vectors import index_job
from models.job import Job
from worker.analyst_runtime import Analyst
from worker.passage import Passage


def summarise_job(analyst: Analyst, unit: Unit, passage: Passage) -> dict[str, Any]:
    """Summarise the job that the unit names, and make its set searchable by what it found.

    The payload says which files there are.

    Raises:
        ResultsExpiredError: the job's results were removed meanwhile.
        DomainError: nothing of it succeeded, or its tables are gone.
    """
    # only where one is made: scikit-learn and its like take seconds to import
    from analysis.summarising import summarise  # noqa: PLC0415

    with analyst.sessions() as session:
        job = session.get(Job, uuid.UUID(unit.options["job_id"]))
    if job is None or job.results_removed_at is not None or job.deleted_at is not None:
        raise ResultsExpiredError("The results of that job were removed before they were summarised.")
    # a lease is one try: what a worker that was lost has written is nobody's
    name = ObjectName(unit.tenant, unit.job_id, uuid.uuid4())
    payload = summarise(analyst.sessions, analyst.blobs, job, name, passage.step, unit.options["seed"])
    index_job(analyst.sessions, analyst.blobs, job, passage.step)
    return payload
