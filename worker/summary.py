"""A summary of a job over an image set, and the index of a large set, as the work of an analyst."""

import uuid
from typing import Any

from jobs.indexing import is_indexed_apart, submit_indexing
from jobs.leases import Unit
from jobs.objects import ObjectName
from jobs.vectors import index_job
from models.job import Job
from worker.analyst_runtime import Analyst
from worker.errors import PausedError
from worker.pairs import readable_job
from worker.passage import Passage


def summarise_job(analyst: Analyst, unit: Unit, passage: Passage) -> dict[str, Any]:
    """Summarise the job that the unit names, and make its set searchable by what it found.

    A large set is made searchable by a job of its own, for which nobody has to wait to have the files. The
    payload says which files there are.

    Raises:
        ResultsExpiredError: the results of the job, or of one that it is set beside, were removed meanwhile.
        IncomparableError: it cannot be set beside that one.
        DomainError: nothing of it succeeded, or its tables are gone.
    """
    # only where one is made: scikit-learn and its like take seconds to import
    from analysis.summarising import Beside, summarise  # noqa: PLC0415

    job = readable_job(analyst, unit.options["job_id"])
    other, reference = (
        readable_job(analyst, unit.options[name]) if name in unit.options else None
        for name in ("compare_with", "drift_from")
    )
    beside = Beside(other, unit.options.get("same_truth"), reference)
    # a lease is one try: what a worker that was lost has written is nobody's
    name = ObjectName(unit.tenant, unit.job_id, uuid.uuid4())
    payload = summarise(
        analyst.sessions, analyst.blobs, job, name, passage.step, unit.options["seed"], beside
    )
    if is_indexed_apart(job):
        with analyst.sessions.begin() as session:
            submit_indexing(session, job, session.get_one(Job, unit.job_id))
    else:
        index_job(analyst.sessions, analyst.blobs, job, passage.step)
    return payload


def index_version(analyst: Analyst, unit: Unit, passage: Passage) -> dict[str, Any]:
    """Make the version that a job is over searchable by what the job found; how many vectors that are.

    Raises:
        ResultsExpiredError: the job's results were removed meanwhile.
        DomainError: the version was deleted, or the job's tables are gone.
        PausedError: there are more of them, for another turn.
    """
    job = readable_job(analyst, unit.options["job_id"])

    def step() -> None:
        passage.step()
        if analyst.is_to_pause(passage):
            raise PausedError("it goes on in another turn")

    return {"vectors": index_job(analyst.sessions, analyst.blobs, job, step)}
