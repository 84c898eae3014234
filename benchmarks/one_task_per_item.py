"""The other way to use Celery, for comparison: one task an item, each with a claim and a complete of its own.

The same tables, statements, broker and engine; only that a message is the licence to run one unit. Run as a
worker by `benchmarks/queue.py`: `celery -A benchmarks.one_task_per_item worker`.
"""

import os
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from celery import signals

from benchmarks.engines import SleepingEngine
from jobs import leases
from jobs.broker import CONSUMER_TRANSPORT, celery_app
from jobs.leases import Holder, ItemResult, UnitResult
from models.session import sync_sessions

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

QUEUE = "benchmark.one-task-per-item"
MODEL = os.environ.get("LENSQUEUE_MODEL", "")
HOLDER = Holder(uuid.UUID(int=1), timedelta(seconds=60), timedelta(seconds=600))

app = celery_app(
    os.environ.get("LENSQUEUE_BROKER_URL", "redis://"),
    CONSUMER_TRANSPORT,
    include=["benchmarks.one_task_per_item"],
    task_default_queue=QUEUE,
)
_held: dict[str, Any] = {}


@signals.worker_process_init.connect
def load(**_: Any) -> None:
    """In the child: what every task needs."""
    _held["engine"] = SleepingEngine()
    _held["sessions"] = sync_sessions(os.environ["LENSQUEUE_DATABASE_URL"])


@app.task(name="benchmark.item", ignore_result=True)
def run_item() -> None:
    """Claim one unit, compute it, complete it."""
    sessions: sessionmaker[Session] = _held["sessions"]
    with sessions.begin() as session:
        claim = leases.claim(session, MODEL, HOLDER)
    if claim is None:
        return
    (unit,) = claim.units
    vectors = _held["engine"].embed_text([item["text"] for item in unit.items]).numpy()
    results = [
        ItemResult(item, payload={"dimensions": len(vector), "embedding": vector})
        for item, vector in zip(unit.items, vectors, strict=True)
    ]
    with sessions.begin() as session:
        leases.complete(session, claim.token, [UnitResult(unit.job_id, unit.unit, results, {})])
