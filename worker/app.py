"""The composition root of a worker: the Celery application of both its processes, and their signals.

The parent talks to the broker and never imports torch; its one child, a fresh interpreter, loads the
checkpoint. An analyst has no checkpoint, and no torch in its child either.
"""

import os
from typing import Any

import structlog
from celery import signals
from sqlalchemy.exc import SQLAlchemyError

from jobs import logs, tracing
from jobs.broker import CONSUMER_TRANSPORT, celery_app, queue_of
from jobs.workers import drain
from models.queue import ANALYSIS
from models.session import sync_sessions
from worker import analyst_runtime, metrics, runtime
from worker.oversight import watch
from worker.settings import WorkerSettings

log = structlog.get_logger()

settings = WorkerSettings()
logs.configure(log_format=settings.log_format)
HARD_LIMIT_MARGIN_SECONDS = 5
is_analyst = settings.model == ANALYSIS

app = celery_app(
    settings.broker_url,
    CONSUMER_TRANSPORT,
    # the child is a fresh interpreter: this is how it comes by the task, and by the signals below
    include=["worker.app", "worker.analyst_tasks" if is_analyst else "worker.tasks"],
    task_default_queue=queue_of(settings.model).name,
    task_queues=[queue_of(settings.model)],
    # a lease that is taken at the end of a slice may last as long as any
    task_time_limit=settings.slice_seconds + settings.hard_limit_seconds + HARD_LIMIT_MARGIN_SECONDS,
)


@signals.worker_process_init.connect
def load_checkpoint(**_: Any) -> None:
    """In the child: load the checkpoint, or say why not and end the worker."""
    tracing.configure("lensqueue-worker")
    try:
        loaded = analyst_runtime.start(settings) if is_analyst else runtime.start(settings)
    except BaseException:
        # Celery swallows what a receiver raises: the child would take work that it cannot do
        log.exception("worker.start_failed")
        os._exit(1)  # and the parent starts another
    if loaded:
        metrics.serve(settings.model, settings.metrics_host, settings.metrics_port)
    else:
        # a worker that cannot load ends, with its reason
        runtime.end_worker()


@signals.worker_process_shutdown.connect
def stop_child(**_: Any) -> None:
    """In the child: end the heartbeat."""
    runtime.stop()
    analyst_runtime.stop()
    tracing.flush()


@signals.worker_ready.connect
def begin_watching(sender: Any, **_: Any) -> None:
    """In the parent: messages are taken from now on."""
    watch(sender, sync_sessions(settings.database_url), settings)


@signals.worker_shutting_down.connect
def say_goodbye(**_: Any) -> None:
    """In the parent: the worker is told to end; its child hears of it by its heartbeat and claims no more."""
    try:
        with sync_sessions(settings.database_url).begin() as session:
            drain(session, settings.worker_id)
    except SQLAlchemyError as error:
        log.warning("worker.goodbye_unsaid", error=str(error))
