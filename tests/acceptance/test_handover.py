"""A worker whose time slice ends hands over by a message of its own, not by the API's maintenance."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import RunningService
from tests.ledger import assert_settled, scalar

pytestmark = [pytest.mark.chaos, pytest.mark.slow_chaos]

ITEMS = 1_000


@pytest.fixture
def hasty_service(state_folder: Path) -> Iterator[RunningService]:
    """A service whose worker's slice ends after every unit."""
    running = RunningService(state_folder / "hasty", LENSQUEUE_SLICE_SECONDS="0")
    try:
        yield running
    finally:
        running.close()


def test_a_worker_drains_a_job_while_the_api_is_frozen(hasty_service: RunningService) -> None:
    service = hasty_service
    texts = [f"text {number}" for number in range(ITEMS)]
    service.submit({"type": "embedding", "input": {"texts": texts}})
    service.wait_until(lambda: bool(scalar(service.sessions, "SELECT count(*) FROM attempts")))
    api = service.stack.pid("api")
    assert api is not None
    os.kill(api, signal.SIGSTOP)
    try:
        assert scalar(service.sessions, "SELECT count(*) FROM work") > 1
        service.wait_until(lambda: scalar(service.sessions, "SELECT count(*) FROM work") == 0)
    finally:
        os.kill(api, signal.SIGCONT)
    assert_settled(service.sessions)
