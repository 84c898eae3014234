"""Faults on order for tests of the ledger: leases that run out, workers that crash, time that passes."""

import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from jobs import fairness, recovery, workers
from jobs.cancel import cancel, drop_work
from tests.ledger import TENANT, WORKER, scalar

LOCK_WAITERS = """SELECT count(*) FROM pg_stat_activity
                  WHERE wait_event_type = 'Lock' AND datname = current_database()"""


def do(sessions: sessionmaker[Session], duty: Callable[[Session], int]) -> int:
    """Do a duty once, in a transaction of its own."""
    with sessions.begin() as session:
        return duty(session)


def do_all(sessions: sessionmaker[Session], duty: Callable[[Session], int]) -> int:
    """Do a duty until it finds nothing; how often it found something."""
    times = 0
    while do(sessions, duty):
        times += 1
    return times


def change(sessions: sessionmaker[Session], statement: str, **values: Any) -> None:
    with sessions.begin() as session:
        session.execute(text(statement), values)


def let_leases_run_out(sessions: sessionmaker[Session]) -> int:
    """Move every lease past its end, then take them back; Postgres is said to have been up for long."""
    change(sessions, "UPDATE leases SET until = now() - interval '1 second', ttl = interval '0'")
    return do(sessions, recovery.expire_leases)


def report_crash(
    sessions: sessionmaker[Session], worker_id: uuid.UUID = WORKER, running: uuid.UUID | None = None
) -> int:
    """The parent of a worker says that its child died of a signal; how many leases it held.

    Unless it is said what was running, it is the lease that the worker took last.
    """
    with sessions.begin() as session:
        held = "SELECT lease_token FROM attempts WHERE worker_id = :id AND ended_at IS NULL"
        running = running or session.scalar(text(held + " ORDER BY started_at DESC"), {"id": worker_id})
        return workers.report_death(session, worker_id, "signal 11", crashed=True, running=running)


def judge(sessions: sessionmaker[Session], worker_id: uuid.UUID = WORKER, *, guilty: bool = True) -> None:
    """The canary of a worker has spoken: the worker is well, so its work is guilty, or it is not."""
    with sessions.begin() as session:
        workers.judge_crashes(session, worker_id, healthy=guilty)


def cancel_job(sessions: sessionmaker[Session], job_id: uuid.UUID, tenant: str = TENANT) -> None:
    """Cancel as the API does: marked first, then dropped in slices, then paid back."""
    with sessions.begin() as session:
        flow = fairness.flow_of(cancel(session, tenant, job_id))
    paid_back = 0.0
    while (cost := _drop(sessions, job_id)) is not None:
        paid_back += cost
    with sessions.begin() as session:
        fairness.refund(session, flow, paid_back)


def in_thread(
    pool: ThreadPoolExecutor, sessions: sessionmaker[Session], call: Callable[[], Any]
) -> Future[Any]:
    """Start a call and wait until it waits for a lock; fails where it does not."""
    started = pool.submit(call)
    for _ in range(200):
        if scalar(sessions, LOCK_WAITERS):
            return started
        time.sleep(0.02)
    raise AssertionError("nobody waits for a lock")


def together(*calls: Callable[[], Any]) -> list[Any]:
    """Make calls at the same time, each in a thread of its own."""
    gate = threading.Barrier(len(calls))

    def go(call: Callable[[], Any]) -> Any:
        gate.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(go, calls))


def _drop(sessions: sessionmaker[Session], job_id: uuid.UUID) -> float | None:
    with sessions.begin() as session:
        return drop_work(session, job_id)
