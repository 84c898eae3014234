"""Key, size and quota are checked before a body is read: seen by a client that sends it bit by bit."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest

from jobs.image_sets import create_set
from jobs.keys import create_key
from tests.acceptance.conftest import RunningService
from tests.ledger import TENANT, scalar
from tests.sets import NOBODYS_SET

MIB = 1024 * 1024
GIB = 1024 * MIB
CHUNK = b"\xff" * (64 * 1024)
BOUNDARY = "----cut"
HEAD = (
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename="a.jpg"\r\n'
    "Content-Type: image/jpeg\r\n\r\n"
).encode()
MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"
SENT_SECONDS = 30
STALL_SECONDS = 10


@pytest.fixture(scope="module")
def api(state_folder: Path) -> Iterator[RunningService]:
    """An API without a worker, whose temporary files are in a folder of their own."""
    temporary = state_folder / "tmp"
    temporary.mkdir()
    running = RunningService(
        state_folder / "uploads",
        with_worker=False,
        TMPDIR=str(temporary),
        LENSQUEUE_MAX_BODY_BYTES=str(64 * MIB),
        LENSQUEUE_MAX_SPOOLED_BYTES=str(80 * MIB),
        LENSQUEUE_MAX_ARCHIVE_BYTES=str(256 * MIB),
        LENSQUEUE_MAX_ARRIVING_BYTES=str(400 * MIB),
        LENSQUEUE_BODY_STALL_SECONDS=str(STALL_SECONDS),
        LENSQUEUE_MAX_TENANT_ITEMS="3",
    )
    try:
        yield running
    finally:
        running.close()


def disk(api: RunningService) -> int:
    """Bytes in temporary files, those without a name too, and in the blob store."""
    opened = [
        entry
        for entry in Path(f"/proc/{api.pid('api')}/fd").iterdir()
        if api.env["TMPDIR"] in target_of(entry)
    ]
    folders = (Path(api.env["TMPDIR"]), Path(api.env["LENSQUEUE_BLOBS"]))
    named = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in (*opened, *named) if path.exists())


def target_of(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except FileNotFoundError:
        # closed since it was listed
        return ""


@contextmanager
def request(api: RunningService, path: str = "/v1/jobs", **headers: str) -> Iterator[socket.socket]:
    """A POST of which the head is sent."""
    given = {"Host": "localhost", "Content-Type": MULTIPART, **headers}
    with socket.create_connection(("127.0.0.1", api.port), timeout=SENT_SECONDS) as connection:
        lines = [f"POST {path} HTTP/1.1", *(f"{name.replace('_', '-')}: {given[name]}" for name in given)]
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        yield connection


def answered(connection: socket.socket) -> bool:
    """Whether an answer lies there."""
    connection.setblocking(False)
    try:
        return bool(connection.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False
    finally:
        connection.settimeout(SENT_SECONDS)


def send_until_answered(connection: socket.socket, most_bytes: int, *, chunked: bool = False) -> int:
    """Send a file bit by bit, no further once there is an answer; returns how much was sent."""
    sent = 0
    part = HEAD
    while sent < most_bytes and not answered(connection):
        connection.sendall(b"%x\r\n%s\r\n" % (len(part), part) if chunked else part)
        sent += len(part)
        part = CHUNK
    return sent


def read_answer(connection: socket.socket) -> tuple[int, dict[str, Any], bytes]:
    """The status and the body of the answer, and its head; interim answers are not skipped."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(65_536)
    head, _, body = received.partition(b"\r\n\r\n")
    length = next(
        int(line.partition(b":")[2])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length")
    )
    while len(body) < length:
        body += connection.recv(65_536)
    return int(head.split()[1]), orjson.loads(body), head


def bearer(api: RunningService) -> dict[str, str]:
    return {"Authorization": f"Bearer {api.key}"}


def bearer_of(api: RunningService, tenant: str) -> dict[str, str]:
    """A key of another tenant."""
    with api.sessions.begin() as session:
        return {"Authorization": f"Bearer {create_key(session, name='other', tenant=tenant).key}"}


def ingestions_of(api: RunningService, tenant: str = TENANT) -> str:
    """Where archives are sent to, of a set that is new."""
    with api.sessions.begin() as session:
        return f"/v1/image-sets/ims_{create_set(session, tenant, 'large').id.hex}/ingestions"


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/images", f"/v1/image-sets/{NOBODYS_SET}/ingestions"])
@pytest.mark.parametrize("framing", ["declared", "chunked"])
def test_a_gigabyte_without_a_key_is_answered_in_the_first_megabyte_and_left_nowhere(
    api: RunningService, path: str, framing: str
) -> None:
    before = disk(api)
    headers = {"Content_Length": str(GIB)} if framing == "declared" else {"Transfer_Encoding": "chunked"}
    with request(api, path, **headers) as connection:
        send_until_answered(connection, MIB - len(CHUNK), chunked=framing == "chunked")
        # it comes although no more than that was sent
        status, problem, _ = read_answer(connection)
        assert (status, problem["code"]) == (401, "unauthenticated")
        # who goes on all the same sends it to nowhere
        with suppress(ConnectionError):
            send_until_answered(connection, 32 * MIB, chunked=framing == "chunked")
        assert disk(api) == before


def test_without_a_key_the_client_is_not_told_to_go_on(api: RunningService) -> None:
    before = disk(api)
    with request(api, Content_Length=str(GIB), Expect="100-continue") as connection:
        status, problem, head = read_answer(connection)
        assert (status, problem["code"]) == (401, "unauthenticated")
        assert b" 100 " not in head
    assert disk(api) == before


@pytest.mark.parametrize("expect", [{}, {"Expect": "100-continue"}])
def test_what_says_that_it_is_too_large_is_refused_at_once(
    api: RunningService, expect: dict[str, str]
) -> None:
    with request(api, Content_Length=str(GIB), **expect, **bearer(api)) as connection:
        status, problem, _ = read_answer(connection)
    assert (status, problem["code"]) == (413, "body-too-large")


def test_what_does_not_say_how_large_it_is_is_stopped_at_the_limit(api: RunningService) -> None:
    before = disk(api)
    with request(api, "/v1/images", Transfer_Encoding="chunked", **bearer(api)) as connection:
        assert 64 * MIB <= send_until_answered(connection, GIB, chunked=True) < 96 * MIB
        status, problem, _ = read_answer(connection)
        assert (status, problem["code"]) == (413, "body-too-large")
    api.wait_until(lambda: disk(api) == before, 10)


def test_a_large_submit_beyond_the_quota_is_refused_before_it_is_read(api: RunningService) -> None:
    other = bearer_of(api, "somebody else")
    texts = {"type": "embedding", "input": {"texts": ["a", "b", "c"]}}
    once = {"Idempotency-Key": "once"}
    first = api.client.post("/v1/jobs", json=texts, headers=once)
    assert first.status_code == 202
    before = disk(api)
    for sizes in ({"Content_Length": str(32 * MIB)}, {"Transfer_Encoding": "chunked"}):
        with request(api, **sizes, **bearer(api)) as connection:
            status, problem, head = read_answer(connection)
            assert (status, problem["code"]) == (429, "quota-exceeded")
            assert b"retry-after: " in head.lower()
    # whose quota is not used up is told to go on, and so is who sends the same again
    for headers in (other, {**bearer(api), "Idempotency_Key": "once"}):
        size = str(32 * MIB)
        with request(api, Content_Length=size, Expect="100-continue", **headers) as connection:
            assert b" 100 Continue" in connection.recv(1000)
    assert disk(api) == before
    api.client.post(first.json()["links"]["cancel"]).raise_for_status()


def test_many_large_uploads_at_once_are_held_to_what_the_process_may_spool(api: RunningService) -> None:
    size = str(60 * MIB)
    with request(api, "/v1/images", Content_Length=size, Expect="100-continue", **bearer(api)) as first:
        # only then is it sure to have come before the others
        assert b" 100 Continue" in first.recv(4096)
        first.sendall(HEAD + CHUNK)
        assert is_busy(api, size, bearer(api))
        # a small one is taken all the same
        picture = {"images": ("a.jpg", b"no picture")}
        assert api.client.post("/v1/images", files=picture).json()["code"] != "uploads-busy"
    # it went away: what it held is free again
    api.wait_until(lambda: not is_busy(api, size, bearer(api)), 10)
    assert scalar(api.sessions, "SELECT count(*) FROM images WHERE tenant = :tenant", tenant=TENANT) == 0


@pytest.mark.slow_chaos
def test_bodies_that_do_not_come_hold_up_no_other_tenant_and_are_given_up(api: RunningService) -> None:
    size, other = str(30 * MIB), bearer_of(api, "somebody else")
    with request(api, "/v1/images", Content_Length=size, Expect="100-continue", **bearer(api)) as silent:
        assert b" 100 Continue" in silent.recv(4096)
        silent.sendall(HEAD)
        # half of the room is for one tenant, and nothing is told but what it is
        assert is_busy(api, size, bearer(api))
        assert not is_busy(api, size, other)
        status, problem, _ = read_answer(silent)
        assert (status, problem["code"]) == (408, "body-stalled")
        # the connection is closed: the rest would be taken for another request
        assert silent.recv(1) == b""
    assert not is_busy(api, size, bearer(api))


@pytest.mark.slow_chaos
def test_a_body_that_comes_byte_by_byte_is_given_up(api: RunningService) -> None:
    size = str(30 * MIB)
    with request(api, "/v1/images", Content_Length=size, Expect="100-continue", **bearer(api)) as slow:
        assert b" 100 Continue" in slow.recv(4096)
        # a good beginning does not count for ever
        slow.sendall(HEAD + CHUNK * 8)
        assert is_busy(api, size, bearer(api))
        until = time.monotonic() + 4 * STALL_SECONDS
        while not answered(slow):
            assert time.monotonic() < until
            slow.sendall(b"x")
            time.sleep(0.5)
        status, problem, _ = read_answer(slow)
        assert (status, problem["code"]) == (408, "body-stalled")
    assert not is_busy(api, size, bearer(api))


def test_small_bodies_hold_no_more_than_has_come_of_them(api: RunningService) -> None:
    with ExitStack() as open_ones:
        for _ in range(80):
            silent = request(api, "/v1/images", Content_Length=str(MIB), Expect="100-continue", **bearer(api))
            assert b" 100 Continue" in open_ones.enter_context(silent).recv(4096)
        assert not is_busy(api, str(40 * MIB), bearer(api))


@pytest.mark.parametrize("as_it_is", [True, False])
def test_an_archive_that_is_larger_than_any_body_goes_to_the_store_in_little_memory(
    api: RunningService, *, as_it_is: bool
) -> None:
    process, before, most = psutil.Process(api.pid("api")), disk(api), 0
    head = HEAD.replace(b"images", b"archive")

    def pieces() -> Iterator[bytes]:
        nonlocal most
        yield b"" if as_it_is else head
        for _ in range(100):
            yield bytes(MIB)
            most = max(most, process.memory_full_info().uss)
        yield b"" if as_it_is else f"\r\n--{BOUNDARY}--\r\n".encode()

    held = process.memory_full_info().uss
    headers = {
        "Content-Type": "application/zip" if as_it_is else MULTIPART,
        "Idempotency-Key": f"large {as_it_is}",
    }
    path = ingestions_of(api)
    answer = api.client.post(path, content=pieces(), headers=headers)
    assert answer.status_code == 202, answer.text
    assert most - held < 24 * MIB
    # in the store alone, and once
    assert disk(api) == before + 100 * MIB
    # sent again, it is found; and nothing more is kept
    assert api.client.post(path, content=pieces(), headers=headers).json()["id"] == answer.json()["id"]
    assert disk(api) == before + 100 * MIB
    api.client.post(answer.json()["links"]["cancel"]).raise_for_status()
    for source in Path(api.env["LENSQUEUE_BLOBS"]).glob("*/sources/*"):
        source.unlink()


def test_an_archive_that_breaks_off_is_left_nowhere(api: RunningService) -> None:
    before = disk(api)
    headers = {"Content-Type": "application/zip", "Content_Length": str(200 * MIB), **bearer(api)}
    with request(api, ingestions_of(api), **headers) as connection:
        for _ in range(8 * MIB // len(CHUNK)):
            connection.sendall(CHUNK)
        api.wait_until(lambda: disk(api) >= before + 6 * MIB, 10)
    api.wait_until(lambda: disk(api) == before, 10)
    assert scalar(api.sessions, "SELECT count(*) FROM jobs WHERE ended_at IS NULL") == 0


def test_an_archive_that_is_coming_holds_up_only_archives_of_its_tenant(api: RunningService) -> None:
    size, other = str(150 * MIB), bearer_of(api, "somebody else")
    path, theirs = ingestions_of(api), ingestions_of(api, "somebody else")
    given = {"Content-Type": "application/zip", "Content_Length": size, "Expect": "100-continue"}
    with request(api, path, **given, **bearer(api)) as first:
        assert b" 100 Continue" in first.recv(4096)
        first.sendall(CHUNK)
        assert is_busy(api, size, bearer(api), path)
        assert not is_busy(api, size, other, theirs)
        assert not is_busy(api, str(30 * MIB), bearer(api))
    api.wait_until(lambda: not is_busy(api, size, bearer(api), path), 10)
    with request(api, path, **{**given, "Content_Length": str(GIB)}, **bearer(api)) as large:
        status, problem, _ = read_answer(large)
        assert (status, problem["code"]) == (413, "body-too-large")


def is_busy(api: RunningService, size: str, key: dict[str, str], path: str = "/v1/images") -> bool:
    with request(api, path, Content_Length=size, Expect="100-continue", **key) as connection:
        head = connection.recv(4096)
        if b" 100 Continue" in head:
            return False
        assert b" 503 " in head
        assert b"retry-after: 2" in head.lower()
        return True
