"""Jobs that make a large version searchable: stored once its summary is made, run by an analyst."""

from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from jobs.analysis_jobs import Wanted, store_job
from jobs.vectors import LARGE
from models.job import Job
from models.types import JobType

GFLOP_PER_VECTOR: Final = 0.3
"""Of a vector that is put into an index: 1.5 ms of a worker that has measured nothing yet."""


def is_indexed_apart(job: Job) -> bool:
    """Whether the vectors of a job are so many that nobody should wait for them with its summary."""
    return job.total > LARGE


def submit_indexing(session: Session, job: Job, summary: Job) -> Job | None:
    """Store a job that indexes what another one found, for whoever asked for the summary; the caller commits.

    None where one of them waits already, or runs.
    """
    waiting = select(Job.id).where(
        Job.tenant == job.tenant,
        Job.version_id == job.version_id,
        Job.type == JobType.INDEX,
        Job.options["job_id"].astext == str(job.id),
        Job.ended_at.is_(None),
    )
    if session.scalar(waiting.limit(1)) is not None:
        return None
    assert job.version_id is not None
    wanted = Wanted(
        type=JobType.INDEX,
        items=[{"kind": "job", "custom_id": f"job_{job.id.hex}"}],
        options={"job_id": str(job.id)},
        item_gflop=job.total * GFLOP_PER_VECTOR,
        version_id=job.version_id,
        tags=summary.tags,
        key_id=summary.key_id,
    )
    return store_job(session, job.tenant, wanted)
