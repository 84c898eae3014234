"""Pictures by URL: fetched with the submit from real servers; what cannot be had is an item that fails."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from api.app import create_app
from api.settings import ApiSettings
from engine.catalog import DEMO_MODEL
from engine.siglip import SiglipEngine
from jobs.blobs import BlobStore
from jobs.keys import create_key
from tests.conftest import SAMPLES
from tests.integration.test_bad_requests import assert_problem
from tests.integration.test_broker import wait_until
from tests.integration.test_idempotency import files_of
from tests.ledger import assert_settled, scalar
from tests.runtimes import runtime_of
from worker import time_slice
from worker.heartbeat import Heartbeat
from worker.runtime import open_decoders

Sessions = sessionmaker[Session]

PICTURE = (SAMPLES / "scene-00000.jpg").read_bytes()
LENS: dict[str, Any] = {"type": "logit_lens", "labels": ["a cyan ring", "a red heart"]}
LIMIT_BYTES = 200_000
ROOM_BYTES = 1_000_000


class Pictures(BaseHTTPRequestHandler):
    """Serves a picture, leads on so many times, streams too much, says nothing, or answers with a status."""

    asked: ClassVar[list[str]] = []
    busy: ClassVar[list[int]] = [0, 0]
    """How many are served now, and were at most."""
    lock: ClassVar[threading.Lock] = threading.Lock()
    go: ClassVar[threading.Event] = threading.Event()

    def do_GET(self) -> None:
        self.asked.append(self.path)
        _, what, *more = self.path.split("/")
        if what == "moved":
            left = int(more[0])
            self._answer(302, location=f"/moved/{left - 1}" if left > 1 else "/picture.jpg")
        elif what == "away":
            self._answer(301, location="http://169.254.169.254/latest/meta-data")
        elif what == "nowhere":
            self._answer(307, location="http://example.com:port/")
        elif what == "status":
            self._answer(int(more[0]), PICTURE)
        elif what == "large":
            self._answer(200, b"x" * (LIMIT_BYTES + 1))
        elif what == "heavy":
            self._answer(200, PICTURE + b"x" * (LIMIT_BYTES - len(PICTURE)))
        elif what == "silent":
            self.go.wait(20)
        elif what == "slow":
            self._serve_slowly()
        elif what == "page":
            self._answer(200, b"<html>no picture</html>")
        else:
            self._answer(200, PICTURE)

    def _serve_slowly(self) -> None:
        with self.lock:
            self.busy[0] += 1
            self.busy[1] = max(self.busy)
        self.go.wait(0.2)
        with self.lock:
            self.busy[0] -= 1
        self._answer(200, PICTURE)

    def _answer(self, status: int, body: bytes = b"", location: str | None = None) -> None:
        self.send_response(status)
        if location is not None:
            self.send_header("Location", location)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            # whoever asked has read enough
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def host() -> Iterator[str]:
    """The address of a server of pictures on 127.0.0.1."""
    Pictures.asked.clear()
    Pictures.busy[:] = [0, 0]
    Pictures.go.clear()
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Pictures)
    httpd.daemon_threads = True
    threading.Thread(target=httpd.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}"
    finally:
        Pictures.go.set()
        httpd.shutdown()
        httpd.server_close()


@contextmanager
def service(settings: ApiSettings, key: str, **changes: Any) -> Iterator[TestClient]:
    """The API where fetching is allowed, from this machine too."""
    allowed = {
        "fetch_urls": True,
        "egress_allowed": ["127.0.0.1:*"],
        "max_image_bytes": LIMIT_BYTES,
        "max_body_bytes": ROOM_BYTES,
    }
    changed = settings.model_copy(update=allowed | changes)
    with TestClient(create_app(changed), headers={"Authorization": f"Bearer {key}"}) as client:
        yield client


@pytest.fixture
def fetching(settings: ApiSettings, key: str) -> Iterator[TestClient]:
    with service(settings, key) as client:
        yield client


def submit(api: TestClient, *images: dict[str, Any], **headers: str) -> Any:
    return api.post("/v1/jobs", json=LENS | {"input": {"images": images}}, headers=headers)


def stored_items(sessions: Sessions) -> list[dict[str, Any]]:
    """The items as workers will read them, of all jobs."""
    rows = scalar(
        sessions,
        "SELECT jsonb_agg(item ORDER BY job_id, unit) FROM job_inputs, jsonb_array_elements(items) AS item",
    )
    return list(rows)


def codes(items: list[dict[str, Any]]) -> list[str | None]:
    return [item.get("error", {}).get("code") for item in items]


def test_urls_are_refused_where_they_are_not_allowed(api: TestClient, host: str, sessions: Sessions) -> None:
    refused = assert_problem(submit(api, {"url": f"{host}/picture.jpg"}), 422, "urls-not-allowed")
    assert "LENSQUEUE_FETCH_URLS" in refused["detail"]
    assert refused["errors"][0]["pointer"] == "/input/images/0/url"
    assert Pictures.asked == []
    assert scalar(sessions, "SELECT count(*) FROM jobs") == 0


def test_pictures_by_url_are_read_as_any_and_what_cannot_be_had_fails_alone(
    fetching: TestClient, host: str, sessions: Sessions, blobs: BlobStore, heartbeat: Heartbeat
) -> None:
    images = [
        {"url": f"{host}/picture.jpg"},
        {"url": f"{host}/moved/3", "custom_id": "moved"},
        {"url": f"{host}/status/404"},
        {"url": f"{host}/page"},
    ]
    accepted = submit(fetching, *images)
    assert accepted.status_code == 202, accepted.text
    engine = SiglipEngine(DEMO_MODEL, device="cpu")
    runtime = runtime_of(engine, sessions, blobs, heartbeat)
    with open_decoders(runtime.settings, engine.provenance["pixel_path"]) as decoders:
        time_slice.run_slice(replace(runtime, decoders=decoders))
    job = fetching.get(accepted.headers["Location"]).json()
    assert (job["state"], job["progress"]["succeeded"], job["progress"]["failed"]) == ("partial", 2, 2)
    items = fetching.get(job["links"]["results"]).json()["items"]
    assert codes(items) == [None, None, "url-unreachable", "not-an-image"]
    assert [item["custom_id"] for item in items] == [
        images[0]["url"],
        "moved",
        *(i["url"] for i in images[2:]),
    ]
    assert items[0]["image_id"] == items[1]["image_id"]
    assert items[0]["top"]["label"] == "a cyan ring"
    assert "404" in items[2]["error"]["message"]
    # a retry takes the items as they are, and fetches nothing: to be submitted again
    assert not items[2]["error"]["retryable"]
    assert_settled(sessions)


def test_a_job_of_nothing_that_could_be_fetched_fails_and_says_why(
    fetching: TestClient, host: str, sessions: Sessions, blobs: BlobStore, heartbeat: Heartbeat
) -> None:
    for type_ in ("embedding", "logit_lens"):
        body = LENS if type_ == "logit_lens" else {"type": type_}
        images = [{"url": f"{host}/status/500"}]
        job = fetching.post("/v1/jobs", json=body | {"input": {"images": images}}).json()
        engine = SiglipEngine(DEMO_MODEL, device="cpu")
        # without decoders: whoever asked for one would fail
        time_slice.run_slice(runtime_of(engine, sessions, blobs, heartbeat))
        ended = fetching.get(job["links"]["self"]).json()
        assert (ended["state"], ended["error"]["code"]) == ("failed", "url-unreachable")
    assert_settled(sessions)


@pytest.mark.parametrize(
    ("path", "code", "said"),
    [
        ("/moved/4", "url-unreachable", "more than 3 times"),
        ("/away", "url-refused", "LENSQUEUE_EGRESS_ALLOWED"),
        ("/nowhere", "url-refused", "no URL"),
        ("/large", "url-too-large", "200000 bytes"),
        ("/status/204", "url-unreachable", "204"),
        ("/status/302", "url-unreachable", "302"),
    ],
)
def test_what_is_not_to_be_had_is_no_fault_of_the_submit(
    fetching: TestClient, host: str, sessions: Sessions, path: str, code: str, said: str
) -> None:
    assert submit(fetching, {"url": f"{host}{path}"}).status_code == 202
    (item,) = stored_items(sessions)
    assert item["error"]["code"] == code
    assert said in item["error"]["message"]
    assert "sha256" not in item
    assert len(Pictures.asked) <= 4


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/picture.jpg",
        "http://localhost/picture.jpg",
        "http://[::1]/picture.jpg",
        "http://2130706433/picture.jpg",
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1:22/",
        "https://user:secret@example.com/a.jpg",
        "file:///etc/passwd",
        "gopher://example.com/",
        "no url",
        "http://",
        "http://\u202eexample.com/",
    ],
)
def test_nothing_but_public_addresses_is_asked(
    settings: ApiSettings, key: str, sessions: Sessions, url: str
) -> None:
    with service(settings, key, egress_allowed=[]) as api:
        assert submit(api, {"url": url}).status_code == 202
    (item,) = stored_items(sessions)
    assert (item["error"]["code"], item["error"]["retryable"]) == ("url-refused", False)


def test_a_picture_has_its_time_and_all_of_a_job_have_theirs(
    settings: ApiSettings, key: str, host: str, sessions: Sessions
) -> None:
    silent, good = {"url": f"{host}/silent"}, {"url": f"{host}/picture.jpg"}
    with service(settings, key, fetch_picture_seconds=0.3) as api:
        assert submit(api, silent, good).status_code == 202
    assert codes(stored_items(sessions)) == ["url-unreachable", None]
    with service(settings, key, fetch_job_seconds=0.5, fetch_at_once=1) as api:
        assert submit(api, good, silent, good).status_code == 202
    items = stored_items(sessions)[2:]
    assert codes(items) == [None, "url-unreachable", "url-unreachable"]
    assert "of this job" in items[2]["error"]["message"]


def test_no_more_are_fetched_at_a_time_than_the_setting_says(
    settings: ApiSettings, key: str, host: str, sessions: Sessions
) -> None:
    with service(settings, key, fetch_at_once=4) as api:
        assert submit(api, *({"url": f"{host}/slow/{n}"} for n in range(5))).status_code == 202
    assert codes(stored_items(sessions)) == [None] * 5
    # half of them for one tenant
    assert Pictures.busy == [0, 2]


def test_urls_of_one_tenant_that_say_nothing_hold_up_no_other(
    settings: ApiSettings, key: str, host: str, sessions: Sessions
) -> None:
    with sessions.begin() as session:
        other = create_key(session, name="other", tenant="somebody else").key
    with service(settings, key, fetch_at_once=2, max_body_bytes=100 * ROOM_BYTES) as api:
        silent = threading.Thread(target=submit, args=(api, *([{"url": f"{host}/silent"}] * 100)))
        silent.start()
        wait_until(lambda: len(Pictures.asked) == 1)
        good = submit(api, {"url": f"{host}/picture.jpg"}, Authorization=f"Bearer {other}")
        assert good.status_code == 202
        (item,) = stored_items(sessions)
        assert "error" not in item
        assert Pictures.asked == ["/silent", "/picture.jpg"]
        Pictures.go.set()
        silent.join()


def test_the_pictures_of_a_job_have_no_more_bytes_than_a_body(
    settings: ApiSettings, key: str, host: str, sessions: Sessions
) -> None:
    with service(settings, key, fetch_at_once=1, max_body_bytes=int(2.5 * LIMIT_BYTES)) as api:
        assert submit(api, *({"url": f"{host}/heavy/{n}"} for n in range(4))).status_code == 202
    assert codes(stored_items(sessions)) == [None, None, "url-too-large", "url-too-large"]
    # what is over is not even asked for
    assert len(Pictures.asked) == 3


def test_pictures_that_were_fetched_are_part_of_what_a_process_may_hold(
    settings: ApiSettings, key: str, host: str, sessions: Sessions
) -> None:
    with sessions.begin() as session:
        other = create_key(session, name="other", tenant="somebody else").key
    heavy, silent = {"url": f"{host}/heavy"}, {"url": f"{host}/silent"}
    with service(settings, key, max_body_bytes=10 * ROOM_BYTES, max_spooled_bytes=2 * ROOM_BYTES) as api:
        slow = threading.Thread(
            target=submit,
            args=(api, heavy, heavy, heavy, silent),
            kwargs={"Authorization": f"Bearer {other}"},
        )
        slow.start()
        wait_until(lambda: "/silent" in Pictures.asked)
        refused = submit(api, *[heavy] * 8)
        assert_problem(refused, 503, "uploads-busy")
        assert "Retry-After" in refused.headers
        # nothing of it is still held
        assert submit(api, *[heavy] * 6).status_code == 202
        Pictures.go.set()
        slow.join()
        assert submit(api, *[heavy] * 8).status_code == 202
    assert codes(stored_items(sessions)).count(None) == 3 + 6 + 8


def test_a_submit_sent_again_fetches_nothing(
    fetching: TestClient, host: str, sessions: Sessions, blobs: BlobStore
) -> None:
    once = {"Idempotency-Key": "order 1"}
    first = submit(fetching, {"url": f"{host}/picture.jpg"}, **once)
    assert (first.status_code, len(Pictures.asked), files_of(blobs.folder)) == (202, 1, 2)
    again = submit(fetching, {"url": f"{host}/picture.jpg"}, **once)
    assert again.json()["id"] == first.json()["id"]
    assert len(Pictures.asked) == 1
    # the same picture, and another submission
    assert_problem(submit(fetching, {"url": f"{host}/other.jpg"}, **once), 422, "idempotency-key-reused")
    assert scalar(sessions, "SELECT input_bytes FROM jobs") == len(PICTURE)


def test_bytes_that_are_fetched_count_towards_the_quota(
    settings: ApiSettings, key: str, host: str, sessions: Sessions
) -> None:
    with service(settings, key, max_tenant_bytes=len(PICTURE) - 1) as api:
        assert_problem(submit(api, {"url": f"{host}/picture.jpg"}), 422, "over-quota")
    assert scalar(sessions, "SELECT count(*) FROM jobs") == 0


def test_a_picture_has_one_source(fetching: TestClient, host: str) -> None:
    url = f"{host}/picture.jpg"
    for image in (
        {"url": url, "data": "aaaa"},
        {"url": ""},
        {"url": None},
        {"url": "x" * 2_001},
        {"url": "\x00"},
    ):
        assert_problem(submit(fetching, image), 422, "invalid-request")
    assert Pictures.asked == []
