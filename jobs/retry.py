"""Trying a job again: all of its items, or those that did not succeed, as a new job.

The items are copied where they lie, since there may be as many as a tenant may have waiting. The job that is
tried again is held meanwhile: while it names its pictures, nobody can delete them.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, overload

from sqlalchemy import Integer, Select, Uuid, bindparam, exists, func, select, text
from sqlalchemy.orm import Session

from engine.catalog import Catalog
from jobs import endpoints, queries
from jobs.admission import Quota, admit
from jobs.analysis_jobs import admit_again
from jobs.deletion import existing
from jobs.errors import AlreadyRetriedError, NotEndedError, NothingToRetryError, ResultsExpiredError
from jobs.origin import origin
from jobs.submission import ImageItem, Item, Submission, Terms, TextItem
from jobs.units import Admission, store_work
from models.job import Job, JobInput
from models.queue import ANALYSIS
from models.types import JobType
from models.webhook import WebhookEndpoint

NONE = uuid.UUID(int=0)

COPY_INPUTS = text("""
    WITH stored AS (
        INSERT INTO job_inputs (job_id, unit, items, image_ids)
        SELECT :job_id, place / :unit_items,
               jsonb_agg(
                   entry || jsonb_build_object(
                       'index', place, 'retry_of_index', entry -> 'index',
                       'first_index', coalesce(entry -> 'first_index', entry -> 'index')
                   )
                   ORDER BY place
               ),
               coalesce(
                   array_agg(DISTINCT CAST(entry ->> 'image_id' AS uuid))
                       FILTER (WHERE cardinality(image_ids) > 0 AND entry ->> 'image_id' IS NOT NULL),
                   '{}'
               )
        FROM (
            SELECT entry, image_ids, CAST(
                       row_number() OVER (ORDER BY CAST(entry ->> 'index' AS integer)) - 1 AS integer
                   ) AS place
            FROM job_inputs CROSS JOIN LATERAL jsonb_array_elements(items) AS entry
            WHERE job_id = :retry_of AND NOT EXISTS (
                SELECT 1 FROM results
                WHERE results.job_id = :succeeded_in AND results.state = 'succeeded'
                  AND results.index = CAST(entry ->> 'index' AS integer)
            )
        ) AS taken
        GROUP BY place / :unit_items
        RETURNING jsonb_array_length(items) AS items
    )
    SELECT coalesce(sum(items), 0) FROM stored
""").bindparams(
    bindparam("job_id", type_=Uuid()),
    bindparam("retry_of", type_=Uuid()),
    bindparam("succeeded_in", type_=Uuid()),
    bindparam("unit_items", type_=Integer()),
)
"""The items of a job but those that succeeded, numbered anew in their order, as the inputs of another one.

Each keeps what it is called and tells its former index, and that of the first try, by which what retries of a
job over an image set found is put in its place. What named no pictures before names none again.
"""


class RetryScope(StrEnum):
    """Which items are tried again: those that failed or were dropped, or all."""

    FAILED_ITEMS = "failed_items"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Alike(Sequence[Item]):
    """So many items of one kind that are not read here; each stands for any of them."""

    size: int
    kind: str

    def __len__(self) -> int:
        """How many."""
        return self.size

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        """One of them, without anything in it."""
        if isinstance(index, slice):
            return replace(self, size=len(range(*index.indices(self.size))))
        if not -self.size <= index < self.size:
            raise IndexError(index)
        return TextItem("") if self.kind == "text" else ImageItem(NONE)


@dataclass(frozen=True, slots=True)
class Retry:
    """A job that is tried again: what is asked for anew, and what its pictures weigh, to be admitted."""

    job: Job
    submission: Submission
    scope: RetryScope
    input_bytes: int


def find_retry(
    session: Session, tenant: str, job_id: uuid.UUID, scope: RetryScope, key_id: uuid.UUID | None
) -> Retry:
    """What trying a tenant's job again comes to; the job is held until the commit.

    Raises:
        NotFoundError, JobDeletedError: the tenant has no such job, or has it no more.
        NotEndedError: it has not ended.
        NothingToRetryError: all of its items succeeded.
        AlreadyRetriedError: it is an ingestion, and another one has gone on where it was.
        ResultsExpiredError: it is no longer known which of them did.
    """
    known = queries.whole_job_of(tenant, job_id)
    # held alone: of two who try an ingestion again, the later one has to see the other's job
    alone = session.scalar(known.with_only_columns(Job.type)) == JobType.INGEST
    job = existing(session.scalar(known.with_for_update(read=not alone, key_share=alone)))
    if job.ended_at is None:
        raise NotEndedError
    if alone and session.scalar(_is_retried(job)):
        raise AlreadyRetriedError
    items = job.total
    if scope is RetryScope.FAILED_ITEMS:
        items = job.failed + job.dropped
        if items == 0:
            raise NothingToRetryError
        over = select(Job.expires_at < func.now()).where(Job.id == job_id)
        if items < job.total and (job.results_removed_at is not None or session.scalar(over)):
            raise ResultsExpiredError(
                "The results went when their time was over, and with them which items failed: retry all."
            )
    kind = session.scalar(select(JobInput.items[0]["kind"].astext).where(JobInput.job_id == job_id).limit(1))
    submission = Submission(
        type=JobType(job.type),
        model=job.model,
        items=Alike(items, kind or "image"),
        options=_options(job, scope),
        terms=Terms(
            start_within=None if job.start_by is None else job.start_by - job.created_at,
            run_timeout=job.run_timeout,
            result_ttl=job.result_ttl,
        ),
        tags=job.tags,
        key_id=key_id,
        webhook_endpoint_id=_endpoint_left(session, job),
    )
    return Retry(job, submission, scope, job.input_bytes * items // job.total)


def _is_retried(job: Job) -> Select[bool]:
    """Whether a job over a version was tried again, also when that try was deleted."""
    return select(exists().where(Job.version_id == job.version_id, Job.retry_of == job.id))


def _options(job: Job, scope: RetryScope) -> dict[str, Any]:
    """What was asked for: all of a job over a set anew, and not what that job has found of it."""
    if scope is RetryScope.ALL and job.model != ANALYSIS and job.version_id is not None:
        return job.options | {"use_cache": False}
    return job.options


def _endpoint_left(session: Session, job: Job) -> uuid.UUID | None:
    """Where the job's end was told: unless that was deleted, which nobody can take back."""
    if job.webhook_endpoint_id is None:
        return None
    known = endpoints.endpoint_of(job.tenant, job.webhook_endpoint_id)
    return session.scalar(known.with_only_columns(WebhookEndpoint.id))


def admit_retry(
    session: Session,
    retry: Retry,
    catalog: Catalog,
    quota: Quota,
    *,
    reserve_as: str,
    waiting_items: int = 0,
) -> Admission:
    """Admit a retry and set room aside for it, see `jobs.admission.admit`; to be committed alone."""
    if retry.job.model == ANALYSIS:
        return admit_again(session, retry.job, retry.submission.size, quota)
    return admit(
        session,
        retry.job.tenant,
        retry.submission,
        catalog,
        quota,
        input_bytes=retry.input_bytes,
        waiting_items=waiting_items,
        reserve_as=reserve_as,
    )


def _origin_of(before: Job) -> dict[str, Any]:
    """Of a retry that no request asks for now, as of many at once, that of the job which is tried again."""
    now = origin()
    return now if now["request_id"] else {**now, "request_id": before.request_id}


def store_retry(
    session: Session, retry: Retry, admission: Admission, *, job_id: uuid.UUID | None = None
) -> Job:
    """Store an admitted retry as a queued job; the caller commits, then invites the workers.

    Raises:
        NotFoundError, JobDeletedError: the job that is tried again has gone since the retry was found.
        ResultsExpiredError: its results have.
    """
    asked = retry.submission
    # held once more: the transaction that admitted it has ended
    before = find_retry(session, retry.job.tenant, retry.job.id, retry.scope, asked.key_id).job
    items = len(asked.items)
    job = Job(
        id=job_id,
        tenant=before.tenant,
        key_id=asked.key_id,
        type=asked.type,
        model=asked.model,
        options=asked.options,
        tags=dict(asked.tags),
        priority=admission.flow.priority,
        retry_of=before.id,
        version_id=before.version_id,
        attempt=before.attempt + 1,
        webhook_endpoint_id=asked.webhook_endpoint_id,
        total=items,
        cost=admission.cost(items),
        vtime_end=admission.end(items),
        charge_id=admission.charge_id,
        input_bytes=retry.input_bytes,
        start_by=None if asked.terms.start_within is None else func.now() + asked.terms.start_within,
        run_timeout=asked.terms.run_timeout,
        result_ttl=asked.terms.result_ttl,
        **_origin_of(before),
    )
    session.add(job)
    session.flush()
    copied: dict[str, Any] = {
        "job_id": job.id,
        "retry_of": before.id,
        "succeeded_in": before.id if retry.scope is RetryScope.FAILED_ITEMS else NONE,
        "unit_items": admission.unit_items,
    }
    if session.scalar(COPY_INPUTS, copied) != items:
        raise ResultsExpiredError("The results of that job are being removed: retry all.")
    store_work(session, job, admission)
    return job
