"""Rows and tables held by somebody else: what makes a process stop at a known place."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import text

from tests.chaos.conftest import Chaos
from tests.faults import LOCK_WAITERS


@contextmanager
def locked(chaos: Chaos, statement: str) -> Iterator[None]:
    """Hold what the statement locks, until the end."""
    with chaos.sessions() as session:
        session.execute(text(statement))
        yield


def somebody_waits(chaos: Chaos) -> bool:
    """Whether somebody waits for a lock."""
    return bool(chaos.count(LOCK_WAITERS))
