"""The supervisor on processes of all manners: those that fail, ignore it, or leave something behind."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from embedded.errors import EmbeddedError, NotMainThreadError, ServiceFailedError
from embedded.process import Service
from embedded.supervisor import Supervisor
from tests.processes import processes_in, wait_until_empty, watch_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path


def test_a_service_that_fails_shows_the_end_of_its_log(place: Path) -> None:
    supervisor = Supervisor()
    log = place / "service.log"
    argv = ["/bin/sh", "-c", "echo no such checkpoint; exit 3"]
    with pytest.raises(ServiceFailedError, match=r"(?s)exit 3.*no such checkpoint"):
        supervisor.start(Service("api", argv, log=log, ready=lambda _pid: False))
    with pytest.raises(ServiceFailedError, match=r"not ready within 0\.2 s"):
        supervisor.start(
            Service("api", ["/bin/sleep", "60"], cwd=place, ready=lambda _pid: False, ready_timeout_s=0.2)
        )
    with pytest.raises(ServiceFailedError, match="could not be executed"):
        supervisor.start(Service("api", ["/nowhere/at/all"]))
    assert supervisor.names == []
    assert processes_in(place) == []


def test_stop_ends_what_ignores_it_and_what_that_started(place: Path) -> None:
    supervisor = Supervisor()
    stubborn = "trap '' TERM; sleep 60 & sleep 60 & touch up; while true; do sleep 0.05; done"
    supervisor.start(
        Service(
            "stubborn",
            ["/bin/sh", "-c", stubborn],
            cwd=place,
            ready=lambda _pid: (place / "up").exists(),
            stop_grace_s=0.2,
        )
    )
    assert len(processes_in(place)) >= 3
    supervisor.stop()
    wait_until_empty(place)


def test_the_delay_of_a_service_that_failed_all_night_stays_bounded(place: Path) -> None:
    supervisor = Supervisor()
    supervisor.start(Service("loop", ["/bin/sh", "-c", "exit 1"], cwd=place, restart=True))
    supervisor._kept["loop"].failures = 5000
    watch_until(supervisor, lambda: supervisor._kept["loop"].start_at is not None)
    due = supervisor._kept["loop"].start_at
    assert due is not None
    assert 25 < due - time.monotonic() <= 30
    supervisor.stop()


def test_a_service_that_need_not_restart_stays_down(place: Path) -> None:
    supervisor = Supervisor()
    supervisor.start(Service("once", ["/bin/sh", "-c", "exit 0"], cwd=place))
    watch_until(supervisor, lambda: supervisor.pid("once") is None)
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    supervisor.run(stop)
    assert supervisor.pid("once") is None
    supervisor.stop()


def test_services_are_started_from_the_main_thread_only(place: Path) -> None:
    raised: list[EmbeddedError] = []

    def start() -> None:
        try:
            Supervisor().start(Service("api", ["/bin/true"], cwd=place))
        except EmbeddedError as error:
            raised.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert [type(error) for error in raised] == [NotMainThreadError]


def test_all_are_asked_to_end_at_once_and_what_they_stand_on_when_they_have(place: Path) -> None:
    def waits_for_all(name: str) -> str:
        """Ends when both have been asked; what is asked one by one waits until it is killed."""
        both = "[ -e asked-api ] && [ -e asked-worker ]"
        waits = f"until {both}; do sleep 0.01; done"
        return f"trap 'touch asked-{name}; {waits}; touch ended-{name}; exit 0' TERM"

    def has_come(file: Path) -> Callable[[int], bool]:
        return lambda _pid: file.exists()

    sleeping = "touch ready-$0; while :; do sleep 0.01; done"
    looks = "trap 'ls ended-* > seen; exit 0' TERM"
    supervisor = Supervisor()
    for name, at_term, foundation in (
        ("postgres", looks, True),
        ("api", waits_for_all("api"), False),
        ("worker", waits_for_all("worker"), False),
    ):
        argv = ["/bin/sh", "-c", f"{at_term}; {sleeping}", name]
        ready = has_come(place / f"ready-{name}")
        supervisor.start(Service(name, argv, cwd=place, ready=ready, foundation=foundation))
    supervisor.stop()
    assert (place / "seen").read_text().split() == ["ended-api", "ended-worker"]
