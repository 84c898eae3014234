"""What a job would come to, were it submitted now."""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.orm import Session

from engine.catalog import Checkpoint
from engine.plan import count_kept
from jobs import transitions
from jobs.pricing import BASE_224, chosen_layers, stored_bytes
from jobs.queries import ONLINE_SECONDS, RATE_SECONDS
from jobs.submission import Submission
from jobs.units import Admission
from models.types import JobType, Priority

COUNTED_UNITS: Final = 10_000
"""Of the queue before the job, no more is looked at."""
NUMBER_BYTES: Final = 12
"""Of a number in a result, as JSON."""

AROUND = text("""
    SELECT crew.online, crew.pace, crew.dtypes, (
        SELECT coalesce(sum(items), 0) FROM (
            SELECT items FROM work
            WHERE model = :model AND lease_token IS NULL AND vtime <= :start
            ORDER BY vtime, id LIMIT :counted
        ) AS before
    ) AS items
    FROM (
        SELECT count(*) FILTER (WHERE here) AS online,
               avg(seconds_per_gflop) FILTER (
                   WHERE seen_at > now() - make_interval(secs => :rate_seconds)
               ) AS pace,
               array_agg(DISTINCT dtype) FILTER (WHERE here AND dtype IS NOT NULL) AS dtypes
        FROM (
            SELECT *, state = 'online' AND seen_at > now() - make_interval(secs => :online_seconds) AS here
            FROM workers WHERE model = :model
        ) AS known
    ) AS crew
""")
"""Who serves a model, and what of its queue comes before a virtual time."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a job would come to: work in GFLOP, bytes of its results, seconds of all online workers together.

    `seconds` is None where no worker has measured the model lately, `dtype` where none is online or they
    differ. `items_before` wait before it and are counted up to COUNTED_UNITS units.
    """

    items: int
    unit_items: int
    priority: Priority
    gflop: float
    result_bytes: int
    seconds: float | None
    workers_online: int
    dtype: str | None
    items_before: int


def estimate(
    session: Session, submission: Submission, admission: Admission, checkpoint: Checkpoint
) -> Estimate:
    """The estimate for a submission that was admitted just now; the caller undoes the admission."""
    session.execute(transitions.READ_BY_INDEX)
    around: Any = session.execute(
        AROUND,
        {
            "model": submission.model,
            "start": admission.start,
            "counted": COUNTED_UNITS,
            "rate_seconds": RATE_SECONDS,
            "online_seconds": ONLINE_SECONDS,
        },
    ).one()
    items = submission.size
    gflop = admission.cost(items)
    dtypes = around.dtypes or []
    return Estimate(
        items=items,
        unit_items=admission.unit_items,
        priority=admission.flow.priority,
        gflop=gflop,
        result_bytes=items * result_bytes(submission, checkpoint),
        seconds=None if around.pace is None else gflop * around.pace / max(1, around.online),
        workers_online=around.online,
        dtype=dtypes[0] if len(dtypes) == 1 else None,
        items_before=around.items,
    )


def result_bytes(submission: Submission, checkpoint: Checkpoint) -> int:
    """What is kept of one item: its arrays, and the numbers in its row; thumbnails are not counted."""
    sizes = checkpoint.dimensions or BASE_224
    numbers = sizes.hidden_size
    if submission.type is not JobType.EMBEDDING:
        labels = count_kept(len(submission.options["labels"]))
        # a cosine at every layer; at the last one the logit and its sigmoid
        numbers = (len(chosen_layers(submission.resolved["layers"], sizes.layers)) + 2) * labels
    arrays = stored_bytes(submission.type, submission.options, checkpoint)
    return numbers * NUMBER_BYTES + sum(arrays.values())
