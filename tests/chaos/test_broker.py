"""A broker that is gone, hung, full, read-only or too talkative: jobs are accepted, and done once each."""

import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import httpx
import pytest
import redis

from jobs.broker import PRODUCER_TRANSPORT, QUEUE_LIMIT, TASK, celery_app, queue_of
from models.types import Priority
from tests.acceptance.conftest import free_port
from tests.chaos.conftest import QUEUE_KEY, Chaos
from tests.ledger import MODEL

JOB = {"type": "embedding", "input": {"texts": ["a text"]}}
AWAY_SECONDS = 120
Change = Callable[[redis.Redis], object]
SUBMIT_SECONDS = 1.0
PATIENCE_SECONDS = 5.0


@contextmanager
def refused() -> Iterator[str]:
    """The address of a broker that nobody listens at."""
    yield f"redis://127.0.0.1:{free_port()}/0"


@contextmanager
def half_open() -> Iterator[str]:
    """The address of a broker that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"


@pytest.mark.parametrize("broker", [refused, half_open])
def test_a_submit_does_not_wait_for_a_broker_that_does_not_answer(
    broker: Callable[[], AbstractContextManager[str]], chaos: Chaos
) -> None:
    with broker() as url:
        port = chaos.add_api("cut off", LENSQUEUE_BROKER_URL=url)
        jobs, seconds = [], []
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=chaos.client.headers) as client:
            for _ in range(3):
                started = time.monotonic()
                answer = client.post("/v1/jobs", json=JOB, timeout=30)
                assert answer.status_code == 202, answer.text
                seconds.append(time.monotonic() - started)
                jobs.append(answer.json())
        assert_none_waited(seconds)
        # and the workers hear of it: by the duty of an API process whose broker is well
        chaos.wait_until(lambda: chaos.broker.llen(QUEUE_KEY) > 0, 20)
        for job in jobs:
            chaos.cancel(job)
        chaos.settle()


@pytest.mark.parametrize(
    ("trouble", "cure"),
    [
        (lambda broker: broker.config_set("maxmemory", 1), lambda broker: broker.config_set("maxmemory", 0)),
        (lambda broker: broker.replicaof("127.0.0.1", 1), lambda broker: broker.replicaof("NO", "ONE")),
    ],
    ids=["full", "read-only"],
)
def test_a_broker_that_takes_nothing_holds_up_no_submit_and_ends_no_worker(
    trouble: Change, cure: Change, chaos: Chaos
) -> None:
    chaos.add_worker()
    worker = chaos.pid("worker")
    seconds = []
    trouble(chaos.broker)
    try:
        with pytest.raises(redis.ResponseError):
            chaos.broker.lpush(QUEUE_KEY, "an invitation")
        for _ in range(3):
            started = time.monotonic()
            chaos.send("a text")
            seconds.append(time.monotonic() - started)
        chaos.wait_seconds(3)
    finally:
        cure(chaos.broker)
    assert_none_waited(seconds)
    chaos.settle(60)
    chaos.send("a text")
    chaos.settle(30)
    assert chaos.pid("worker") == worker
    assert chaos.count("SELECT count(*) FROM attempts WHERE outcome <> 'completed'") == 0


def test_messages_that_come_five_times_to_several_workers_are_work_once(chaos: Chaos) -> None:
    jobs = [chaos.order(["sleep 0.05"], Priority.INTERACTIVE) for _ in range(30)]
    invite(chaos, [job_id for job_id in jobs for _ in range(5)])
    for name in ("first", "second", "third", "fourth"):
        chaos.add_worker(name, ready=False, LENSQUEUE_BATCH_ITEMS="1", LENSQUEUE_SLICE_SECONDS="0")
    chaos.wait_until(lambda: any(chaos.state_of(name) == "online" for name in chaos.workers), 90)
    invite(chaos, [job_id for job_id in jobs for _ in range(5)])
    chaos.settle()
    chaos.wait_until(lambda: chaos.broker.llen(QUEUE_KEY) == 0)
    assert chaos.count("SELECT count(*) FROM attempts") == len(jobs)
    assert chaos.count("SELECT count(*) FROM results") == len(jobs)
    chaos.settle()


def assert_none_waited(seconds: list[float]) -> None:
    """A submit takes milliseconds; the machine may be busy, yet hardly during all of them."""
    assert min(seconds) < SUBMIT_SECONDS
    assert max(seconds) < PATIENCE_SECONDS


def invite(chaos: Chaos, jobs: list[uuid.UUID]) -> None:
    """Send messages past the bound."""
    with celery_app(chaos.stack.broker_url, PRODUCER_TRANSPORT) as app:
        for job_id in jobs:
            app.send_task(TASK, task_id=str(job_id), queue=queue_of(MODEL), retry=False, ignore_result=True)


def test_while_no_worker_is_there_the_queue_in_the_broker_stays_short(chaos: Chaos) -> None:
    longest = 0
    for _ in range(3 * QUEUE_LIMIT):
        chaos.send("a text")
        longest = max(longest, chaos.broker.llen(QUEUE_KEY))
    chaos.add_api("another")
    for _ in range(AWAY_SECONDS):
        chaos.wait_seconds(1)
        longest = max(longest, chaos.broker.llen(QUEUE_KEY))
    assert 0 < longest <= QUEUE_LIMIT
    chaos.add_worker()
    chaos.settle()
    assert chaos.count("SELECT count(*) FROM jobs WHERE state = 'succeeded'") == 3 * QUEUE_LIMIT
