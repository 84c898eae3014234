"""The client when connections break, answers are lost, and it or the API is killed."""

import os
import signal
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import httpx
import pytest

from lensqueue_client import Client, Job, Retries, UnavailableError, UnreachableError
from tests.acceptance.clients import LABELS, PATHS, QUICK, Faulty, Stops
from tests.acceptance.conftest import RunningService, free_port
from tests.ledger import scalar


def test_an_address_where_nothing_listens_is_told_after_the_retries(service: RunningService) -> None:
    with (
        Client(f"http://127.0.0.1:{free_port()}", "lq_x", retries=Retries(times=2, first_s=0.01)) as nowhere,
        pytest.raises(UnreachableError),
    ):
        nowhere.models()
    assert issubclass(UnreachableError, UnavailableError)


def test_events_go_on_behind_the_last_that_was_seen(service: RunningService) -> None:
    transport = Stops("/events", 700, times=4)
    with Client(f"http://127.0.0.1:{service.port}", service.key, transport=transport) as client:
        job = client.wait(client.submit_embedding(PATHS * 5))
        events = list(client.events(job))
    assert [event.data["index"] for event in events if event.name == "item"] == list(range(15))
    assert events[-1].name == "done"
    assert transport.times == 0
    assert "Last-Event-ID" in transport.asked[-1]


@pytest.mark.parametrize("kind", ["parquet", "npz", "ndjson"])
def test_a_download_that_breaks_off_goes_on_where_it_was(
    service: RunningService, tmp_path: Path, kind: str
) -> None:
    url = f"http://127.0.0.1:{service.port}"
    with Client(url, service.key) as client:
        job = client.wait(client.submit_embedding(PATHS * 10)).raise_for_failure()
        whole = client.download(job, tmp_path / f"whole.{kind}").read_bytes()
    transport = Stops("/results", 1_000, times=3)
    with Client(url, service.key, transport=transport, retries=Retries(times=1)) as client:
        with pytest.raises(UnreachableError):
            client.download(job, tmp_path / f"parts.{kind}")
        # another process, some other time
        found = client.download(job, tmp_path / f"parts.{kind}")
    assert transport.statuses == [200, 206, 206, 206]
    assert transport.asked[-1]["Range"] == "bytes=3000-"
    assert found.read_bytes() == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"parts.{kind}", f"whole.{kind}"]


@pytest.mark.parametrize(
    "fault",
    [
        httpx.ReadError("lost"),
        httpx.ReadTimeout("late"),
        httpx.RemoteProtocolError("gone"),
        httpx.Response(408, headers={"Connection": "close"}, json={"code": "body-stalled"}),
        httpx.Response(503, headers={"Retry-After": "0"}),
        httpx.Response(429, headers={"Retry-After": "0"}, json={"code": "rate-limited"}),
    ],
    ids=lambda fault: type(fault).__name__ + str(getattr(fault, "status_code", "")),
)
@pytest.mark.parametrize("pictures", [[], PATHS[:2]], ids=["json", "multipart"])
def test_what_is_sent_again_makes_no_second_job(
    service: RunningService, fault: Exception | httpx.Response, pictures: list[Path]
) -> None:
    before = scalar(service.sessions, "SELECT count(*) FROM jobs")
    transport = Faulty(fault, fault)
    url = f"http://127.0.0.1:{service.port}"
    with Client(url, service.key, transport=transport, retries=QUICK) as client:
        texts = [] if pictures else ["a ring"]
        job = client.submit_embedding(pictures, texts=texts)
        assert client.wait(job, timeout=60).complete
    assert len({request.headers["Idempotency-Key"] for request in transport.sent[:3]}) == 1
    assert scalar(service.sessions, "SELECT count(*) FROM jobs") == before + 1


KILLED = """
import sys, time, httpx
from lensqueue_client import Client

class Hangs(httpx.HTTPTransport):
    def handle_request(self, request):
        answer = super().handle_request(request)
        if sys.argv[3] == "hang":
            print("received", flush=True)
            time.sleep(600)
        return answer

with Client(transport=Hangs()) as client:
    job = client.submit_lens(sys.argv[1], ["cyan ring"], idempotency_key=sys.argv[2])
    print(client.wait(job).id)
"""


def test_a_client_that_is_killed_after_its_post_finds_its_job_again(service: RunningService) -> None:
    before = scalar(service.sessions, "SELECT count(*) FROM jobs")
    key = str(uuid.uuid4())
    argv = [sys.executable, "-c", KILLED, str(PATHS[0]), key]
    url = f"http://127.0.0.1:{service.port}"
    env = {**os.environ, "LENSQUEUE_URL": url, "LENSQUEUE_API_KEY": service.key}
    with subprocess.Popen([*argv, "hang"], env=env, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "received\n"
        first.send_signal(signal.SIGKILL)
    again = subprocess.run([*argv, "go on"], env=env, capture_output=True, text=True, check=True, timeout=60)
    assert scalar(service.sessions, "SELECT count(*) FROM jobs") == before + 1
    with Client(url, service.key) as client:
        assert client.job(again.stdout.strip()).complete


def test_waiting_survives_a_restart_of_the_api(service: RunningService, sync_client: Client) -> None:
    job = sync_client.submit_lens(PATHS * 80, LABELS)
    begun = threading.Event()
    ended: list[Job] = []
    waiting = threading.Thread(
        target=lambda: ended.append(sync_client.wait(job, on_progress=lambda _: begun.set()))
    )
    waiting.start()
    begun.wait(30)
    service.signal("api", signal.SIGKILL)
    service.wait_until(lambda: not waiting.is_alive())
    assert ended[0].complete
