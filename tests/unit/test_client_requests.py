"""What the client does about answers that a service gives seldom, and about its own limits."""

import asyncio
import io
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from lensqueue_client import (
    ActionTimeoutError,
    AsyncClient,
    Client,
    LensqueueError,
    Retries,
    UnavailableError,
    WaitTimeoutError,
    flows,
    submissions,
)

JOB = "job_" + "0" * 32
ALONE = httpx.Limits(max_connections=1)
KEY = "lq_test"
Answer = tuple[int, Mapping[str, str], bytes]


@contextmanager
def service(answer: Callable[[BaseHTTPRequestHandler], Answer]) -> Iterator[str]:
    """The address of something that answers so."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, headers, body = answer(self)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def told(state: str) -> bytes:
    """A job as the service tells of it."""
    job = {"id": JOB, "type": "embedding", "model": "m", "state": state, "progress": {"total": 1}}
    return json.dumps({**job, "done": state != "running"}).encode()


def download(url: str, target: Path) -> Path:
    """By the client that waits."""
    with Client(url, KEY, retries=Retries(times=0)) as client:
        return client.download(JOB, target)


def download_with_asyncio(url: str, target: Path) -> Path:
    """By the client for asyncio."""

    async def run() -> Path:
        async with AsyncClient(url, KEY, retries=Retries(times=0)) as client:
            return await client.download(JOB, target)

    return asyncio.run(run())


@pytest.mark.parametrize("fetch", [download, download_with_asyncio])
@pytest.mark.parametrize(("part", "requests"), [(b"whole", 1), (b"longer than it", 2), (b"who", 1)])
def test_a_part_behind_which_there_is_nothing_is_the_file_or_is_dropped(
    tmp_path: Path, fetch: Callable[[str, Path], Path], part: bytes, requests: int
) -> None:
    (tmp_path / "results.ndjson.part").write_bytes(part)
    (tmp_path / "results.ndjson.part.etag").write_text('"tag"')
    asked = []

    def answer(request: BaseHTTPRequestHandler) -> Answer:
        asked.append(request.headers["Range"])
        start = int((asked[-1] or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        if start >= len(b"whole"):
            return 416, {"Content-Range": "bytes */5"}, b"{}"
        return 206 if start else 200, {"ETag": '"tag"'}, b"whole"[start:]

    with service(answer) as url:
        target = fetch(url, tmp_path / "results.ndjson")

    assert target.read_bytes() == b"whole"
    assert len(asked) == requests
    assert list(tmp_path.iterdir()) == [target]


def test_events_that_were_all_heard_give_their_connection_back() -> None:
    with service(lambda _: (204, {}, b"")) as url:
        alone = httpx.HTTPTransport(limits=ALONE)
        with Client(url, KEY, timeout=2, retries=Retries(times=0), transport=alone) as client:
            assert [list(client.events(JOB)) for _ in range(2)] == [[], []]


def test_events_that_were_all_heard_give_their_connection_back_with_asyncio() -> None:
    async def run(url: str) -> None:
        alone = httpx.AsyncHTTPTransport(limits=ALONE)
        async with AsyncClient(url, KEY, timeout=2, retries=Retries(times=0), transport=alone) as client:
            for _ in range(2):
                assert [event async for event in client.events(JOB)] == []

    with service(lambda _: (204, {}, b"")) as url:
        asyncio.run(run(url))


def test_pictures_are_uploaded_as_many_at_a_time_as_a_request_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flows, "UPLOAD_BYTES", 10)
    (tmp_path / "six").write_bytes(b"666666")
    four = io.BytesIO(b"4444")
    four.read()
    bodies = []

    def answer(request: BaseHTTPRequestHandler) -> Answer:
        body = request.rfile.read(int(request.headers["content-length"]))
        bodies.append(
            [each for each in (b"666666", b"4444", b"1", b"c" * 12) if b"\n" + each + b"\r" in body]
        )
        items = [{"id": f"{len(bodies)}-{place}"} for place in range(body.count(b"filename="))]
        return 200, {}, json.dumps({"items": items}).encode()

    with service(answer) as url, Client(url, KEY) as client:
        ids = client.upload([tmp_path / "six", four, b"1", b"c" * 12, b"1", b"1"])
        assert client.upload([]) == []

    assert bodies == [[b"666666", b"4444"], [b"1"], [b"c" * 12], [b"1"]]
    assert ids == ["1-0", "1-1", "2-0", "3-0", "4-0", "4-1"]


@pytest.mark.parametrize(
    ("timeout", "prefer"), [(60, "wait=30"), (10, "wait=8"), (1, None), (httpx.Timeout(None), "wait=30")]
)
def test_a_poll_is_held_for_less_than_its_answer_is_waited_for(
    timeout: float | httpx.Timeout, prefer: str | None
) -> None:
    asked = []

    def answer(request: BaseHTTPRequestHandler) -> Answer:
        asked.append(request.headers["Prefer"])
        return 200, {}, told("running" if len(asked) == 1 else "succeeded")

    with service(answer) as url, Client(url, KEY, timeout=timeout) as client:
        assert client.wait(JOB).state == "succeeded"

    assert asked == [None, prefer]


def test_a_wait_whose_time_is_over_while_the_service_is_away_says_so_and_why() -> None:
    asked = []

    def answer(_: BaseHTTPRequestHandler) -> Answer:
        asked.append(1)
        return (200, {}, told("running")) if len(asked) == 1 else (503, {"Retry-After": "100"}, b"{}")

    with service(answer) as url, Client(url, KEY) as client, pytest.raises(WaitTimeoutError) as caught:
        client.wait(JOB, timeout=50)

    assert caught.value.job.state == "running"
    assert isinstance(caught.value.__cause__, UnavailableError)


def test_a_wait_for_a_job_that_was_never_seen_ends_in_its_time_too() -> None:
    asked = []

    def answer(_: BaseHTTPRequestHandler) -> Answer:
        asked.append(1)
        return 503, {"Retry-After": "100"}, b"{}"

    with service(answer) as url, Client(url, KEY) as client, pytest.raises(UnavailableError):
        client.wait(JOB, timeout=50)

    assert len(asked) == 1


def refuses(retries: list[tuple[str, float]]) -> tuple[Callable[[LensqueueError, float], object], str]:
    """What listens to retries, and an address where nobody does: the discard port."""
    return lambda failure, after_s: retries.append((failure.code, after_s)), "http://127.0.0.1:9/below"


def test_whoever_listens_hears_of_every_retry_and_the_end_names_the_address() -> None:
    heard: list[tuple[str, float]] = []
    tell, url = refuses(heard)
    with (
        Client(url, KEY, retries=Retries(times=2, first_s=0.01), on_retry=tell) as client,
        pytest.raises(UnavailableError, match=r"nothing answers at http://127\.0\.0\.1:9: "),
    ):
        client.models()
    assert [code for code, _ in heard] == ["unreachable"] * 2


def test_whoever_listens_hears_of_every_retry_with_asyncio() -> None:
    heard: list[tuple[str, float]] = []
    tell, url = refuses(heard)

    async def run() -> None:
        async with AsyncClient(url, KEY, retries=Retries(times=1, first_s=0.01), on_retry=tell) as client:
            await client.models()

    with pytest.raises(UnavailableError):
        asyncio.run(run())
    assert [code for code, _ in heard] == ["unreachable"]


def test_an_action_is_looked_at_until_it_has_ended_or_the_time_is_over() -> None:
    asked = []

    def answer(_: BaseHTTPRequestHandler) -> Answer:
        asked.append(1)
        ended = "2026-03-01T12:00:00Z" if len(asked) == 3 else None
        told = {"id": "act_1", "action": "delete", "state": "running", "matched": 4, "done": len(asked)}
        return 200, {}, json.dumps({**told, "ended_at": ended}).encode()

    with service(answer) as url, Client(url, KEY) as client:
        with pytest.raises(ActionTimeoutError, match="1 of 4 jobs") as caught:
            client.wait_for_action("act_1", timeout=0)
        assert (caught.value.action.id, caught.value.action.ended) == ("act_1", False)
        assert client.wait_for_action("act_1").done == 3


def test_a_label_that_is_a_text_comes_in_a_list_and_what_else_is_single_is_one() -> None:
    direction = {"name": "rather a ring", "positive": "a ring", "negative": "a square"}
    with pytest.raises(TypeError, match=r"labels: pass a list, \['a cat,a dog'\]"):
        submissions.lens([], "a cat,a dog", None, {})
    with pytest.raises(TypeError, match="pass a list"):
        submissions.rescore(JOB, "cyan ring", {})
    assert submissions.lens([], direction, None, {}).json["labels"] == [direction]
    assert submissions.rescore(JOB, ["cyan ring"], {}).json["labels"] == ["cyan ring"]
    assert submissions.embedding([], "a ring", None, {}).json["input"] == {"texts": ["a ring"]}
