"""The one Celery configuration, shared by the producer (API) and the consumers (workers).

A message is an invitation to claim, not a licence to run: losing, doubling or delaying one is harmless,
because work waits in Postgres and the maintenance invites again.
"""

import queue
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import structlog
from celery import Celery
from kombu import Exchange, Queue
from kombu.exceptions import OperationalError
from redis import RedisError

log = structlog.get_logger()

BROKER_ERRORS = (OperationalError, RedisError, OSError)
"""What a broker that is gone, full or hung raises."""

TASK = "lensqueue.work"
CLOSE_SECONDS: Final = 5.0
QUEUE_LIMIT = 64
"""Invitations that may wait in one queue; more would only tell the workers what they know."""
LENGTH_SECONDS: Final = 0.25
"""So long a look at a queue's length serves: to look again costs as much as to send."""
FULL_SECONDS: Final = 0.05
"""After so long a queue that was full is looked at again, once for all that it had no room for."""
KEY_PREFIX = "lensqueue:"

SETTINGS: dict[str, Any] = {
    "accept_content": ["json"],
    "broker_channel_error_retry": True,  # a broker that becomes a replica answers with an error, and stays
    "broker_connection_max_retries": None,
    "broker_connection_retry_on_startup": True,
    "task_acks_late": False,
    "task_ignore_result": True,
    "task_publish_retry": False,
    "task_reject_on_worker_lost": False,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "worker_concurrency": 1,
    "worker_disable_prefetch": True,
    "worker_enable_remote_control": False,
    "worker_hijack_root_logger": False,
    "worker_pool_start_method": "spawn",  # a fork after torch has run hangs
    "worker_prefetch_multiplier": 1,
    "worker_redirect_stdouts": False,
    "worker_proc_alive_timeout": 300.0,  # loading a checkpoint takes its time
    "worker_send_task_events": False,
    "worker_soft_shutdown_timeout": 20.0,
}
CONSUMER_TRANSPORT: dict[str, Any] = {
    "global_keyprefix": KEY_PREFIX,
    "health_check_interval": 10,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "socket_timeout": 10,
}
# A submit never waits for the broker: fail fast, the maintenance invites again.
PRODUCER_TRANSPORT = {
    **CONSUMER_TRANSPORT,
    "max_retries": 0,
    "socket_connect_timeout": 0.5,
    "socket_timeout": 0.5,
}


def queue_of(model: str) -> Queue:
    """The queue of a model, on the nameless exchange: no binding to be lost with the broker's data."""
    name = f"lensqueue.{model}"
    return Queue(name, exchange=Exchange(""), routing_key=name)


def celery_app(broker_url: str, transport_options: dict[str, Any], **settings: Any) -> Celery:
    """A Celery application with the project's configuration; `redis://` or `redis+socket:///path` URL."""
    app = Celery("lensqueue", broker=broker_url, set_as_current=False)
    app.conf.update(SETTINGS, broker_transport_options=_for_url(broker_url, transport_options), **settings)
    return app


class Inviter:
    """Sends invitations from a thread of its own; a broker that is gone costs its callers nothing."""

    def __init__(self, broker_url: str) -> None:
        """Start the sending thread; `close` ends it."""
        self._app = celery_app(broker_url, PRODUCER_TRANSPORT)
        self._waiting: queue.Queue[tuple[str, str] | None] = queue.Queue(maxsize=QUEUE_LIMIT)
        self._lengths: dict[str, _Length] = {}
        self._full: dict[str, str] = {}
        self._look_at = 0.0
        self._thread = threading.Thread(target=self._send_all, name="inviter", daemon=True)
        self._thread.start()

    def invite(self, model: str, job_id: uuid.UUID) -> None:
        """Tell the workers of a model that work waits, soon and without waiting."""
        if model in self._full:
            # its queue will be looked at again: there is nothing to add
            return
        try:
            self._waiting.put_nowait((model, str(job_id)))
        except queue.Full:
            log.info("invitation.dropped", model=model, job_id=str(job_id))

    def waiting(self, model: str) -> int:
        """How many invitations wait in the model's queue.

        Raises:
            BROKER_ERRORS: the broker does not answer.
        """
        with self._app.producer_or_acquire() as producer:
            return int(producer.channel.client.llen(queue_of(model).name))

    def close(self) -> None:
        """Send what is waiting, then end the thread; not for longer than CLOSE_SECONDS each."""
        with suppress(queue.Full):
            # a broker that hangs; the thread is a daemon, and the duties invite again
            self._waiting.put(None, timeout=CLOSE_SECONDS)
        self._thread.join(timeout=CLOSE_SECONDS)
        self._app.close()

    def _send_all(self) -> None:
        while True:
            try:
                invitation = self._waiting.get(timeout=self._rest_seconds())
            except queue.Empty:
                self._look_again()
                continue
            if invitation is None:
                return
            self._try_to_send(*invitation)
            if self._rest_seconds() == 0:
                self._look_again()

    def _rest_seconds(self) -> float | None:
        return max(0.0, self._look_at - time.monotonic()) if self._full else None

    def _look_again(self) -> None:
        for model in list(self._full):
            # first it is full no more, then it is looked at: who came before that is invited by it
            self._try_to_send(model, self._full.pop(model))

    def _try_to_send(self, model: str, job_id: str) -> None:
        try:
            self._send(model, job_id)
        except BROKER_ERRORS as error:
            log.warning("invitation.unsent", model=model, job_id=job_id, error=str(error))
        except Exception:
            # whatever else it is: this thread is the only sender, it must not end
            log.exception("invitation.failed", model=model, job_id=job_id)

    def _send(self, model: str, job_id: str) -> None:
        target = queue_of(model)
        with self._app.producer_or_acquire() as producer:
            known = self._lengths.get(target.name)
            if known is None or not known.is_telling:
                found = int(producer.channel.client.llen(target.name))
                known = self._lengths[target.name] = _Length(found, time.monotonic() + LENGTH_SECONDS)
            if known.at_most < QUEUE_LIMIT:
                self._app.send_task(
                    TASK, task_id=job_id, queue=target, producer=producer, retry=False, ignore_result=True
                )
                known.at_most += 1
            else:
                self._full[model] = job_id
                self._look_at = time.monotonic() + FULL_SECONDS


@dataclass(slots=True)
class _Length:
    """How long a queue is at most, by one look and what was sent since: workers only take from it."""

    at_most: int
    until: float

    @property
    def is_telling(self) -> bool:
        # a queue that seems full may have been emptied since
        return self.at_most < QUEUE_LIMIT and time.monotonic() < self.until


def _for_url(broker_url: str, options: dict[str, Any]) -> dict[str, Any]:
    # a unix socket has no TCP keepalive, and redis-py refuses the option there
    if broker_url.startswith("redis+socket:"):
        return {name: value for name, value in options.items() if name != "socket_keepalive"}
    return options
