"""The composition root of a worker: the Celery application of both its processes, and their signals.

The parent talks to the broker and never imports torch; its one child, a fresh interpreter, loads the
checkpoint.
"""

import os
import signal
from typing import Any

import structlog
from celery import signals
from sqlalchemy.exc import SQLAlchemyError

from jobs.broker import CONSUMER_TRANSPORT, celery_app, queue_of
from jobs.workers import report_offline
from models.session import sync_sessions
from worker import runtime
from worker.settings import WorkerSettings

log = structlog.get_logger()

settings = WorkerSettings()
HARD_LIMIT_MARGIN_SECONDS = 30

app = celery_app(
    settings.broker_url,
    CONSUMER_TRANSPORT,
    # the child is a fresh interpreter: this is how it comes by the task, and by the signals below
    include=["worker.app", "worker.tasks"],
    task_default_queue=queue_of(settings.model).name,
    task_queues=[queue_of(settings.model)],
    task_time_limit=settings.slice_seconds + settings.hard_limit_seconds + HARD_LIMIT_MARGIN_SECONDS,
)


@signals.worker_process_init.connect
def load_checkpoint(**_: Any) -> None:
    """In the child: load the checkpoint, or say why not and end the worker."""
    if runtime.start(settings):
        return
    # The parent would start child after child; a worker that cannot load must end, visibly, with its reason.
    os.kill(os.getppid(), signal.SIGTERM)
    os._exit(1)


@signals.worker_process_shutdown.connect
def stop_child(**_: Any) -> None:
    """In the child: end the heartbeat."""
    runtime.stop()


@signals.worker_shutdown.connect
def say_goodbye(**_: Any) -> None:
    """In the parent: the worker ends by its own will."""
    try:
        with sync_sessions(settings.database_url).begin() as session:
            report_offline(session, settings.worker_id)
    except SQLAlchemyError as error:
        log.warning("worker.goodbye_unsaid", error=str(error))
