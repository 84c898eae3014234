"""What must never be in the ledger, and what it is to do with its work: drawn events are judged by it."""

import uuid
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import text
from sqlalchemy.orm import Session

from jobs.leases import Appetite
from jobs.transitions import LONELY_LOSSES, MAX_STRIKES

NEVER: Final = {
    "counted more than there is": "SELECT id FROM jobs WHERE succeeded + failed + dropped > total",
    "ended, though not all is counted, or the other way round": """
        SELECT id FROM jobs WHERE (ended_at IS NOT NULL) <> (succeeded + failed + dropped = total)
           OR (ended_at IS NULL) <> (state IN ('queued', 'running', 'cancelling'))""",
    "an item neither waiting, held nor counted": """
        SELECT id FROM jobs
        WHERE total <> succeeded + failed + dropped
            + (SELECT coalesce(sum(items), 0) FROM work WHERE job_id = jobs.id)""",
    "a counted item without its result, or a result that is not counted": """
        SELECT jobs.id FROM jobs LEFT JOIN results ON results.job_id = jobs.id
        GROUP BY jobs.id
        HAVING jobs.succeeded <> count(*) FILTER (WHERE results.state = 'succeeded')
            OR jobs.failed <> count(*) FILTER (WHERE results.state = 'failed')""",
    "a result of an item that still waits": """
        SELECT work.id FROM work JOIN job_inputs USING (job_id, unit),
            jsonb_array_elements(job_inputs.items) AS waiting (item), results
        WHERE results.job_id = work.job_id AND results.index = (waiting.item ->> 'index')::int""",
    "work that is not its input": """
        SELECT work.id FROM work LEFT JOIN job_inputs USING (job_id, unit)
        WHERE work.items IS DISTINCT FROM jsonb_array_length(job_inputs.items)""",
    "an item that is in no unit, or in two": """
        SELECT job_id FROM job_inputs, jsonb_array_elements(items) AS unit (item), jobs
        WHERE jobs.id = job_id GROUP BY job_id, total
        HAVING count(*) <> total OR count(DISTINCT unit.item -> 'index') <> total""",
    "a lease of nothing": """
        SELECT token FROM leases WHERE NOT EXISTS (SELECT 1 FROM work WHERE lease_token = token)""",
    "work of a job that has ended": """
        SELECT work.id FROM work JOIN jobs ON jobs.id = job_id WHERE ended_at IS NOT NULL""",
    "an open try at work that nobody holds, or work held without one": """
        SELECT job_id FROM (SELECT job_id, unit, lease_token FROM attempts WHERE ended_at IS NULL) AS open
        FULL JOIN (SELECT job_id, unit, lease_token FROM work WHERE lease_token IS NOT NULL) AS held
        USING (job_id, unit, lease_token) WHERE open.unit IS NULL OR held.unit IS NULL""",
    "work that is to be paid for twice, or a place before the first": """
        SELECT work.id FROM work WHERE vtime < 0 OR cost < 0""",
    "an item that was blamed before three workers died of it": """
        SELECT job_id FROM results WHERE error ->> 'code' = 'worker-crashed' AND (
            SELECT count(*) FROM attempts
            WHERE outcome = 'crashed' AND judged AND attempts.job_id = results.job_id) < 3""",
}
"""What must not be, by the query that would find it."""
FOUND: Final = " UNION ALL ".join(
    f"SELECT '{what}' WHERE EXISTS ({query})" for what, query in NEVER.items()
).replace("::", r"\:\:")

Key = tuple[uuid.UUID, int]
"""A unit of work: its job, and its number there."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A row of work at the time of the transaction that reads it."""

    job_id: uuid.UUID
    unit: int
    items: int
    losses: int
    strikes: int
    batch_key: str
    item_bytes: int
    lease_token: uuid.UUID | None
    pause_seconds: float
    """How long it is not claimable yet; at most 0 when it is."""

    @property
    def key(self) -> Key:
        return self.job_id, self.unit

    @property
    def is_sociable(self) -> bool:
        return self.losses < LONELY_LOSSES and self.strikes == 0

    @property
    def is_claimable(self) -> bool:
        may_be_tried = self.strikes == 0 or (self.items == 1 and self.strikes < MAX_STRIKES)
        return self.lease_token is None and self.pause_seconds <= 0 and may_be_tried


def read_work(session: Session) -> list[Piece]:
    """All work, in the order of its turn; two readings in one transaction see the same time."""
    rows = session.execute(
        text("""
            SELECT job_id, unit, items, losses, strikes, batch_key, item_bytes, lease_token,
                   CAST(extract(epoch FROM run_at - now()) AS double precision)
            FROM work ORDER BY vtime, id
        """)
    )
    return [Piece(*row) for row in rows]


def read_outcomes(session: Session, token: uuid.UUID) -> dict[Key, tuple[str | None, str | None]]:
    """How the tries under a lease ended, and why."""
    tries = text("SELECT job_id, unit, outcome, reason FROM attempts WHERE lease_token = :token")
    return {
        (row.job_id, row.unit): (row.outcome, row.reason) for row in session.execute(tries, {"token": token})
    }


def taken_by(appetite: Appetite, work: list[Piece]) -> list[Piece]:
    """What a claim takes of the work: whatever is first, or nothing, and its mates."""
    waiting = [piece for piece in work if piece.is_claimable]
    if not waiting:
        return []
    head, *others = waiting
    if (appetite.beside and not head.is_sociable) or (appetite.single and head.items > 1):
        return []
    if head.items > 1 or not head.is_sociable:
        return [head]
    mates = [
        piece
        for piece in others
        if piece.items == 1 and piece.is_sociable and piece.batch_key == head.batch_key
    ]
    fitting = max(appetite.memory_bytes // max(head.item_bytes, 1), 1)
    return [head, *mates][: min(appetite.items, fitting)]


def struck(work: list[Piece], crashes: Collection[Collection[Key]]) -> list[Piece]:
    """The work after a healthy canary: each crash is told by what the lease held that ran in it."""
    after = []
    for piece in work:
        sizes = {len(units) for units in crashes if piece.key in units}
        if 1 in sizes and piece.items == 1:
            after.append(replace(piece, strikes=piece.strikes + 1))
        elif sizes:
            after.append(replace(piece, strikes=max(piece.strikes, 1)))
        else:
            after.append(piece)
    return after
