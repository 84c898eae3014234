"""The queues as those who run the service look at them: cheap to read, however much waits."""

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from sqlalchemy import BigInteger, Integer, Select, bindparam, or_, select, text

from jobs.queries import WORKERS_SHOWN_DAYS
from models.audit import AuditEntry

COUNTED_UNITS: Final = 5_000
"""Of what waits for a model no more is read."""
FLOWS_SHOWN: Final = 20
PAUSED: Final = "queue.paused"
DRAINED: Final = "queue.drained"

OVERVIEW: Final = text("""
    SELECT known.model, queues.paused_at, waits.items AS waiting, waits.units > :counted AS more,
           coalesce(runs.items, 0) AS running, extract(epoch FROM waits.oldest)::double precision AS oldest_s
    FROM (
        SELECT model FROM queues
        UNION
        SELECT model FROM workers WHERE seen_at > now() - make_interval(days => :days)
    ) AS known
    LEFT JOIN queues ON queues.model = known.model
    LEFT JOIN (
        SELECT model, sum(items) AS items FROM work WHERE lease_token IS NOT NULL GROUP BY model
    ) AS runs ON runs.model = known.model
    CROSS JOIN LATERAL (
        SELECT count(*) AS units, coalesce(sum(items), 0) AS items,
               max(now() - uuid_extract_timestamp(id)) AS oldest
        FROM (
            SELECT id, items FROM work
            WHERE model = known.model AND lease_token IS NULL
            ORDER BY vtime, id LIMIT :counted + 1
        ) AS first
    ) AS waits
    ORDER BY known.model
""").bindparams(
    bindparam("counted", COUNTED_UNITS, Integer()), bindparam("days", WORKERS_SHOWN_DAYS, Integer())
)
"""Every queue that was used, was paused or has workers: its waiting and its running items, its oldest wait.

What waits is counted up to so many units. The oldest is among these: of each flow that is what comes first,
and what comes first in each flow is near the floor (see `jobs.fairness`).
"""

FLOWS: Final = text("""
    SELECT queues.model, ahead.tenant, ahead.priority, ahead.clock - queues.floor AS ahead
    FROM queues
    CROSS JOIN LATERAL (
        SELECT tenant, priority, clock FROM flows
        WHERE flows.model = queues.model AND clock > queues.floor
        ORDER BY clock DESC, tenant, priority LIMIT :flows
    ) AS ahead
    ORDER BY queues.model, ahead.clock DESC, ahead.tenant, ahead.priority
""").bindparams(bindparam("flows", FLOWS_SHOWN + 1, BigInteger()))
"""By model, the flows that have work ahead of what was claimed last, those with most of it first.

One more than FLOWS_SHOWN of each, to tell that there are more.
"""


def pauses(paused: Mapping[str, datetime]) -> Select[AuditEntry]:
    """Who paused these queues, as far as it was by the dashboard; by model, since when they are paused.

    The audit notes it in the same transaction, hence at the very same time; its ids are ordered by time.
    """
    return select(AuditEntry).where(
        AuditEntry.tenant.is_(None),
        or_(
            *(
                (AuditEntry.id >= _first_id(at))
                & (AuditEntry.id < _first_id(at, later_s=60))
                & (AuditEntry.at == at)
                & (AuditEntry.target == model)
                & AuditEntry.verb.in_((PAUSED, DRAINED))
                for model, at in paused.items()
            )
        ),
    )


def _first_id(at: datetime, later_s: int = 0) -> uuid.UUID:
    return uuid.UUID(int=int((at.timestamp() + later_s) * 1000) << 80)
