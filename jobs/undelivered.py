"""The duties about messages to webhook endpoints: what nobody wants any more ends, what is old goes."""

from datetime import timedelta
from typing import Final

from sqlalchemy import Interval, bindparam, text
from sqlalchemy.orm import Session

DELIVERIES_KEPT: Final = timedelta(days=30)
ROWS_AT_ONCE: Final = 1_000

END_UNWANTED = text("""
    UPDATE webhook_deliveries
    SET state = 'failed', ended_at = now(), state_reason = unwanted.reason
    FROM (
        SELECT deliveries.id, CASE endpoints.state
            WHEN 'disabled' THEN 'The endpoint was disabled.'
            WHEN 'deleted' THEN 'The endpoint was deleted.'
            ELSE 'The endpoint was not verified in time.'
        END AS reason
        FROM webhook_endpoints AS endpoints CROSS JOIN LATERAL (
            SELECT id FROM webhook_deliveries
            WHERE endpoint_id = endpoints.id AND state = 'pending'
              AND (endpoints.state <> 'pending' OR created_at < now() - interval '1 day')
            LIMIT :limit
            FOR UPDATE SKIP LOCKED
        ) AS deliveries
        WHERE endpoints.state <> 'enabled'
        LIMIT :limit
    ) AS unwanted
    WHERE webhook_deliveries.id = unwanted.id
    RETURNING webhook_deliveries.id
""")

PRUNE = text("""
    DELETE FROM webhook_deliveries
    WHERE id IN (
        SELECT id FROM webhook_deliveries WHERE state <> 'pending' AND ended_at < now() - :kept
        ORDER BY ended_at LIMIT :limit
        FOR UPDATE SKIP LOCKED
    )
    RETURNING id
""").bindparams(bindparam("kept", type_=Interval()))


def end_unwanted(session: Session) -> int:
    """Fail what waits for endpoints that want nothing any more, a slice; returns how many messages."""
    return len(session.execute(END_UNWANTED, {"limit": ROWS_AT_ONCE}).all())


def prune_deliveries(session: Session, kept: timedelta) -> int:
    """Remove messages that ended so long ago, a slice; returns how many."""
    return len(session.execute(PRUNE, {"kept": kept, "limit": ROWS_AT_ONCE}).all())
