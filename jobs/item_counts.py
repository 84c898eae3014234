"""What workers finished, by the minute: counted when it is done, and kept after the jobs are gone."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ARRAY, BigInteger, Text, Uuid, bindparam, text
from sqlalchemy.orm import Session


@dataclass(slots=True)
class Finished:
    """Items of one tenant that have their results, or the errors that stand for them."""

    succeeded: int = 0
    failed: int = 0


BOUND_WAIT: Final = text("""
    SELECT set_config('lock_timeout', '1s', true), set_config('transaction_timeout', '5s', true)
""")
"""For the count after it: a worker that freezes in the midst of its own must not hold up the others'."""

COUNT_FINISHED: Final = text("""
    WITH counted AS (
        SELECT * FROM unnest(:tenants, :succeeded, :failed) AS new (tenant, succeeded, failed)
    ), told AS (
        UPDATE workers SET finished = finished + (SELECT sum(succeeded + failed) FROM counted)
        WHERE id = :worker_id
    )
    INSERT INTO item_minutes AS known (minute, model, tenant, succeeded, failed)
    SELECT date_trunc('minute', now()), :model, tenant, succeeded, failed FROM counted
    -- everybody in one order, or two workers would wait for each other
    ORDER BY tenant
    ON CONFLICT (minute, model, tenant) DO UPDATE
    SET succeeded = known.succeeded + excluded.succeeded, failed = known.failed + excluded.failed
""").bindparams(
    bindparam("worker_id", type_=Uuid()),
    bindparam("model", type_=Text()),
    bindparam("tenants", type_=ARRAY(Text())),
    bindparam("succeeded", type_=ARRAY(BigInteger())),
    bindparam("failed", type_=ARRAY(BigInteger())),
)
"""Add to the present minute what a worker finished, and to what it has finished in all."""


def count_finished(
    session: Session, worker_id: uuid.UUID, model: str, finished: Mapping[str, Finished]
) -> None:
    """Count what a worker finished since it last said so, by tenant; in a transaction of its own."""
    tenants = sorted(finished)
    session.execute(BOUND_WAIT)
    session.execute(
        COUNT_FINISHED,
        {
            "worker_id": worker_id,
            "model": model,
            "tenants": tenants,
            "succeeded": [finished[tenant].succeeded for tenant in tenants],
            "failed": [finished[tenant].failed for tenant in tenants],
        },
    )
