"""Invitations: sent, bounded, repeated by the maintenance, and never in a caller's way."""

import socket
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from sqlalchemy.orm import Session, sessionmaker

from embedded.stack import Stack
from jobs.broker import FULL_SECONDS, KEY_PREFIX, QUEUE_LIMIT, Inviter, queue_of
from jobs.maintenance import invite_workers
from tests.ledger import MODEL, claim, submit_texts

JOB = uuid.UUID(int=7)


@pytest.fixture
def inviter(broker_url: str) -> Iterator[Inviter]:
    made = Inviter(broker_url)
    yield made
    made.close()


def wait_until(condition: Callable[[], bool], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_an_invitation_lands_in_the_queue_of_its_model(inviter: Inviter) -> None:
    inviter.invite(MODEL, JOB)
    wait_until(lambda: inviter.waiting(MODEL) == 1)
    assert inviter.waiting("other") == 0


def test_a_queue_holds_a_bounded_number_of_invitations(inviter: Inviter) -> None:
    for _ in range(4):
        for _ in range(QUEUE_LIMIT // 2):
            inviter.invite(MODEL, JOB)
        time.sleep(0.3)
    assert inviter.waiting(MODEL) == QUEUE_LIMIT


def test_who_came_while_a_queue_was_full_is_invited_once_it_has_room(inviter: Inviter, stack: Stack) -> None:
    # some more than there is room for, and a moment later another one
    for _ in range(QUEUE_LIMIT // 2):
        inviter.invite(MODEL, JOB)
    wait_until(lambda: inviter.waiting(MODEL) == QUEUE_LIMIT // 2)
    for _ in range(QUEUE_LIMIT // 2 + 1):
        inviter.invite(MODEL, JOB)
    wait_until(lambda: inviter.waiting(MODEL) == QUEUE_LIMIT)
    time.sleep(3 * FULL_SECONDS)
    inviter.invite(MODEL, JOB)
    with redis.Redis.from_url(stack.valkey_url) as client:
        client.delete(KEY_PREFIX + queue_of(MODEL).name)
    wait_until(lambda: inviter.waiting(MODEL) == 1)


def test_the_maintenance_invites_where_work_waits_and_no_message_does(
    inviter: Inviter, sessions: sessionmaker[Session]
) -> None:
    submit_texts(sessions)
    submit_texts(sessions, model="other")
    claim(sessions, model="other")
    with sessions() as session:
        assert invite_workers(session, inviter) == 1
    wait_until(lambda: inviter.waiting(MODEL) == 1)
    assert inviter.waiting("other") == 0
    with sessions() as session:
        assert invite_workers(session, inviter) == 0


@pytest.fixture(params=["refused", "silent"])
def dead_broker_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A broker that is not there, and one that accepts connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if request.param == "silent":
            listener.listen()
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"


def test_a_dead_broker_holds_nobody_up(dead_broker_url: str, sessions: sessionmaker[Session]) -> None:
    inviter = Inviter(dead_broker_url)
    submit_texts(sessions)
    started = time.monotonic()
    for _ in range(3 * QUEUE_LIMIT):
        inviter.invite(MODEL, JOB)
    # a caller only puts into a queue in memory, which is bounded; seconds would mean that it waited
    assert time.monotonic() - started < 0.4
    with sessions() as session:
        assert invite_workers(session, inviter) == 0
