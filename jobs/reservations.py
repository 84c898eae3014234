"""Room in a tenant's quota that is set aside for a job from when it is admitted until it is stored, or fails.

Only for jobs whose items are copied in the database: there may be a million of them, and while they are
stored many others could be admitted. What the body of one request brings is small beside a quota.
"""

import uuid
from datetime import timedelta
from typing import Final, NamedTuple

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models.reservation import Reservation
from models.session import Database

LOCK_SPACE: Final = 0x4C53
"""Of the advisory locks under which a tenant's room is set aside, beside those of duties and endpoints."""
KEPT: Final = timedelta(minutes=10)
"""So long a reservation holds whose process is gone."""
FORGOTTEN_AT_ONCE: Final = 1_000


class Held(NamedTuple):
    """What counts against a tenant's quota: items, bytes of pictures, estimated work."""

    items: int
    input_bytes: int
    gflop: float


def wait_turn(database: Database, tenant: str) -> None:
    """Let one transaction at a time look for room and set it aside; to be committed soon."""
    database.execute(select(func.pg_advisory_xact_lock(LOCK_SPACE, func.hashtext(tenant))))


def reserve(database: Database, tenant: str, name: str, asked: Held) -> uuid.UUID:
    """Set room aside under a name; returns what it is given up by."""
    row = {"tenant": tenant, "name": name, **asked._asdict(), "until": func.now() + KEPT}
    return database.scalars(insert(Reservation).values(row).returning(Reservation.id)).one()


def give_up(session: Session, reservation_id: uuid.UUID) -> None:
    """Set nothing aside any more, because the job counts itself, or never will."""
    session.execute(
        delete(Reservation)
        .where(Reservation.id == reservation_id)
        .execution_options(synchronize_session=False)
    )


def forget_reservations(session: Session) -> int:
    """Remove those of processes that are gone, a slice; returns how many."""
    over = (
        select(Reservation.id)
        .where(Reservation.until < func.now())
        .limit(FORGOTTEN_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    gone = delete(Reservation).where(Reservation.id.in_(over)).returning(Reservation.id)
    return len(session.execute(gone.execution_options(synchronize_session=False)).all())
