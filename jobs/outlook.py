"""What a job has before it: who serves its model, where it stands in the queue, and when it may be done.

When is an estimate by virtual time: until the end of the job is reached, every flow of the model that has
work is served as much as its weight says, but no further than its own clock (see `jobs.fairness`). That sum
is in GFLOP; by the workers' own measure it becomes seconds.
"""

import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Row, Uuid, bindparam, column, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from jobs.fairness import WEIGHTS
from jobs.queries import ONLINE_SECONDS, RATE_SECONDS, WORKERS_SHOWN_DAYS
from models.types import Priority

COLUMNS: Final = ("id", "online", "paused", "load_failure", "units_before", "seconds")
"""What a reading has, in its order."""
POSITIONS: Final = 200
"""The place in the queue is counted so far; behind it, only the estimate tells."""


def reading(jobs: str, work: str) -> str:
    """SQL that reads what the rows of `jobs` have before them; `work` holds their first units.

    Of each job a few reads by index, and of a job that ended none in the queue.
    """
    interactive, bulk = WEIGHTS[Priority.INTERACTIVE], WEIGHTS[Priority.BULK]
    return f"""
    SELECT jobs.id, crew.online, queues.paused_at IS NOT NULL AS paused,
           CASE WHEN crew.online = 0 AND jobs.ended_at IS NULL THEN (
               -- one that is starting over after a failure still has the error of its last try
               SELECT error FROM workers
               WHERE workers.model = jobs.model
                 AND seen_at > now() - make_interval(days => {WORKERS_SHOWN_DAYS})
                 AND (state <> 'starting' OR error IS NOT NULL)
               ORDER BY seen_at DESC LIMIT 1
           ) END AS load_failure,
           CASE WHEN first.id IS NOT NULL THEN (
               SELECT count(*) FROM (
                   SELECT 1 FROM work
                   WHERE model = jobs.model AND lease_token IS NULL
                     AND (vtime, work.id) < (first.vtime, first.id)
                   ORDER BY vtime, id LIMIT :positions
               ) AS before
           ) END AS units_before,
           CASE WHEN jobs.state IN ('queued', 'running') THEN greatest(
               jobs.cost * (total - succeeded - failed - dropped) / total,
               (
                   SELECT sum(
                       CASE priority WHEN 'interactive' THEN {interactive} ELSE {bulk} END
                       * (least(clock, jobs.vtime_end) - queues.floor)
                   )
                   FROM flows
                   WHERE flows.model = jobs.model AND clock > queues.floor AND jobs.vtime_end > queues.floor
               )
           ) * crew.pace / nullif(crew.online, 0) END AS seconds
    FROM {jobs} AS jobs
    LEFT JOIN queues ON queues.model = jobs.model
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (
                   WHERE state = 'online' AND seen_at > now() - make_interval(secs => {ONLINE_SECONDS})
               ) AS online,
               avg(seconds_per_gflop) FILTER (
                   WHERE seen_at > now() - make_interval(secs => {RATE_SECONDS})
               ) AS pace
        FROM workers WHERE workers.model = jobs.model
    ) AS crew
    -- units are numbered from 0: of a job that nobody began, the first one waits
    LEFT JOIN {work} AS first ON first.job_id = jobs.id AND first.unit = 0 AND jobs.state = 'queued'
"""  # noqa: S608 - of relations and numbers in this code, nothing from outside


OUTLOOKS: Final = (
    text(reading("jobs", "work") + "WHERE jobs.id = ANY(:job_ids)")
    .bindparams(bindparam("job_ids", type_=ARRAY(Uuid())))
    .columns(*map(column, COLUMNS))
)
PARAMETERS: Final[dict[str, Any]] = {"positions": POSITIONS}
"""What every reading has."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is known beside the job's own row; None where it is not known, or there is no more to come.

    `queue_position` counts units from 1, that of the first that is claimed next; `eta_s` is until all of it
    is done. `load_failure` is why the model's last worker could not load, where none is online.
    """

    workers_online: int
    paused: bool = False
    load_failure: dict[str, Any] | None = None
    queue_position: int | None = None
    eta_s: int | None = None


def outlooks(session: Session, job_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, Outlook]:
    """What these jobs have before them, by their ids."""
    rows = session.execute(OUTLOOKS, PARAMETERS | {"job_ids": list(job_ids)})
    return {row.id: told(row) for row in rows}


def told(row: Row[Any]) -> Outlook:
    """What a row of `reading` tells."""
    return Outlook(
        workers_online=row.online,
        paused=row.paused,
        load_failure=row.load_failure,
        queue_position=_position(row.units_before),
        eta_s=None if row.paused or row.seconds is None else math.ceil(row.seconds),
    )


def outlook_of(session: Session, job_id: uuid.UUID) -> Outlook:
    """What one job has before it."""
    return outlooks(session, [job_id]).get(job_id, Outlook(0))


def _position(units_before: int | None) -> int | None:
    return None if units_before is None or units_before >= POSITIONS else units_before + 1
