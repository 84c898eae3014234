"""One key, one job: however often, at once, or in whatever encoding a submit is sent again."""

import base64
import json
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from jobs import idempotency, maintenance
from jobs.blobs import BlobStore
from jobs.errors import IdempotencyKeyInUseError, IdempotencyKeyReusedError, IdempotencyKeySpentError
from jobs.idempotency import Once
from jobs.keys import create_key
from jobs.submission import Submission, TextItem
from models.api_key import ApiKey
from models.session import POOL_SIZE
from models.types import JobType, Made
from tests.conftest import SAMPLES
from tests.faults import together
from tests.integration.test_bad_requests import assert_problem
from tests.ledger import MODEL, TENANT, admit_alone, scalar

Sessions = sessionmaker[Session]
TEXTS: dict[str, Any] = {"type": "embedding", "input": {"texts": ["a ring", "a heart"]}}
LENS: dict[str, Any] = {"type": "logit_lens", "labels": ["a cyan ring", "a red heart"]}
KEY = {"Idempotency-Key": "order 1"}
REPLAYED = "Idempotency-Replayed"
OTHER = (SAMPLES / "scene-00001.jpg").read_bytes()


def multipart(boundary: str, *pictures: bytes) -> dict[str, Any]:
    """A multipart submit with a boundary of one's own."""
    mark = f"--{boundary}\r\nContent-Disposition: form-data; name=".encode()
    body = mark + b'"job"\r\n\r\n' + json.dumps(LENS).encode() + b"\r\n"
    for picture in pictures:
        body += mark + b'"images"; filename="a.jpg"\r\n\r\n' + picture + b"\r\n"
    return {
        "content": body + f"--{boundary}--\r\n".encode(),
        "headers": KEY | {"Content-Type": f"multipart/form-data; boundary={boundary}"},
    }


def files_of(store: Path) -> int:
    return sum(path.is_file() for path in store.rglob("*"))


def test_a_submit_sent_again_is_answered_with_the_same_job(api: TestClient, sessions: Sessions) -> None:
    first = api.post("/v1/jobs", json=TEXTS, headers=KEY)
    # another order of fields, and a default that is said
    again = {"input": TEXTS["input"], "options": {"normalize": True}, "type": "embedding"}
    second = api.post("/v1/jobs", json=again, headers=KEY)
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json() == second.json()
    assert (REPLAYED in first.headers, second.headers[REPLAYED]) == (False, "true")
    assert second.headers["Location"] == first.headers["Location"]
    assert scalar(sessions, "SELECT count(*) FROM jobs") == 1
    assert scalar(sessions, "SELECT count(*) FROM work") == 2


def test_without_a_key_every_submit_is_a_job(api: TestClient, sessions: Sessions) -> None:
    for _ in range(2):
        assert REPLAYED not in api.post("/v1/jobs", json=TEXTS).headers
    api.post("/v1/jobs", json=TEXTS, headers=KEY)
    api.post("/v1/jobs", json=TEXTS, headers={"Idempotency-Key": "order 2"})
    assert scalar(sessions, "SELECT count(*) FROM jobs") == 4


def test_fifty_submits_at_once_make_one_job(api: TestClient, sessions: Sessions, picture: bytes) -> None:
    start = threading.Barrier(50)

    def post(number: int) -> Any:
        start.wait()
        return api.post("/v1/jobs", **multipart(f"boundary{number}", picture, OTHER))

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(post, range(50)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum(REPLAYED not in answer.headers for answer in answers) == 1
    assert scalar(sessions, "SELECT count(*) FROM jobs") == 1
    assert scalar(sessions, "SELECT count(*) FROM images") == 2


@contextmanager
def twins(api: TestClient, sessions: Sessions, count: int) -> Iterator[list[Future[Any]]]:
    """So many requests with one key, all of them admitted, of which none can be stored meanwhile."""
    admitted = "SELECT coalesce(sum(clock), 0) FROM flows"
    api.post("/v1/jobs", json=TEXTS)
    charge = scalar(sessions, admitted)
    with ThreadPoolExecutor(count) as pool, sessions.begin() as session:
        session.execute(text("LOCK TABLE job_inputs IN SHARE MODE"))
        posts = [pool.submit(api.post, "/v1/jobs", json=TEXTS, headers=KEY) for _ in range(count)]
        until = time.monotonic() + 30
        while scalar(sessions, admitted) < (count + 0.5) * charge:
            assert time.monotonic() < until, "not all of them were admitted"
            time.sleep(0.05)
        yield posts


def test_twins_that_wait_hold_up_no_other_request(api: TestClient, sessions: Sessions) -> None:
    with twins(api, sessions, 2 * (POOL_SIZE + POOL_SIZE)) as posts:
        assert api.get("/v1/jobs").status_code == 200
        assert not any(post.done() for post in posts)
    answers = [post.result() for post in posts]
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum(REPLAYED not in answer.headers for answer in answers) == 1


def test_a_twin_waits_for_so_long_and_no_longer(
    api: TestClient, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.once.WAIT_SECONDS", 0.1)
    with twins(api, sessions, 2) as posts:
        refused = next(as_completed(posts)).result()
        assert_problem(refused, 409, "idempotency-key-in-use")
    assert sorted(post.result().status_code for post in posts) == [202, 409]
    assert api.post("/v1/jobs", json=TEXTS, headers=KEY).headers[REPLAYED] == "true"


def test_pictures_are_the_same_in_any_encoding(api: TestClient, sessions: Sessions, picture: bytes) -> None:
    first = api.post("/v1/jobs", **multipart("one", picture))
    second = api.post("/v1/jobs", **multipart("another", picture))
    encoded = {"data": base64.b64encode(picture).decode(), "custom_id": "a.jpg"}
    third = api.post("/v1/jobs", json=LENS | {"input": {"images": [encoded]}}, headers=KEY)
    image_id = api.post("/v1/images", files={"images": picture}).json()["items"][0]["id"]
    named = {"image_id": image_id, "custom_id": "a.jpg"}
    fourth = api.post("/v1/jobs", json=LENS | {"input": {"images": [named]}}, headers=KEY)
    assert [REPLAYED in answer.headers for answer in (first, second, third, fourth)] == [False] + [True] * 3
    assert len({answer.json()["id"] for answer in (first, second, third, fourth)}) == 1
    assert scalar(sessions, "SELECT count(*) FROM jobs") == 1


@pytest.mark.parametrize(
    "body",
    [
        TEXTS | {"input": {"texts": ["a heart", "a ring"]}},
        TEXTS | {"input": {"texts": ["a ring"]}},
        TEXTS | {"options": {"normalize": False}},
        TEXTS | {"model": "google/siglip-base-patch16-224"},
    ],
)
def test_a_key_with_another_body_is_refused(api: TestClient, sessions: Sessions, body: Any) -> None:
    api.post("/v1/jobs", json=TEXTS, headers=KEY)
    assert_problem(api.post("/v1/jobs", json=body, headers=KEY), 422, "idempotency-key-reused")
    assert scalar(sessions, "SELECT count(*) FROM jobs") == 1


def test_a_key_with_another_picture_is_refused_and_stores_nothing(
    api: TestClient, blobs: BlobStore, picture: bytes
) -> None:
    api.post("/v1/jobs", **multipart("x", picture))
    before = files_of(blobs.folder)
    assert_problem(api.post("/v1/jobs", **multipart("x", OTHER)), 422, "idempotency-key-reused")
    assert files_of(blobs.folder) == before


def test_a_key_is_free_again_after_a_day(api: TestClient, sessions: Sessions) -> None:
    first = api.post("/v1/jobs", json=TEXTS, headers=KEY)
    shift(sessions, "23 hours 59 minutes")
    assert api.post("/v1/jobs", json=TEXTS, headers=KEY).headers[REPLAYED] == "true"
    shift(sessions, "2 minutes")
    other = api.post("/v1/jobs", json=TEXTS | {"options": {"normalize": False}}, headers=KEY)
    assert other.status_code == 202
    assert REPLAYED not in other.headers
    assert other.json()["id"] != first.json()["id"]


def test_an_old_key_is_taken_over_also_while_nobody_has_forgotten_it(sessions: Sessions) -> None:
    """The API's own maintenance does not run here."""
    for number in range(2):
        submit_once(sessions, f"{number}")
        shift(sessions, "25 hours")
    assert scalar(sessions, "SELECT count(*) FROM jobs") == 2
    assert scalar(sessions, "SELECT fingerprint FROM idempotency_keys") == "1"
    with sessions.begin() as session:
        assert maintenance.run_alone(session, 4, idempotency.forget_keys) == 1
        assert maintenance.run_alone(session, 4, idempotency.forget_keys) == 0
    assert scalar(sessions, "SELECT count(*) FROM idempotency_keys") == 0


def submit_once(sessions: Sessions, fingerprint: str) -> None:
    wanted = Submission(JobType.EMBEDDING, MODEL, [TextItem("a ring")], {"normalize": True})
    admission = admit_alone(sessions, wanted)
    once = Once("a key", fingerprint)
    with sessions.begin() as session:
        _, new = idempotency.submit_once(session, TENANT, wanted, admission, once)
    assert new


def shift(sessions: Sessions, by: str) -> None:
    with sessions.begin() as session:
        session.execute(
            text("UPDATE idempotency_keys SET created_at = created_at - CAST(:by AS interval)"), {"by": by}
        )


def test_a_key_whose_job_is_gone_makes_no_second_one(api: TestClient, sessions: Sessions) -> None:
    api.post("/v1/jobs", json=TEXTS, headers=KEY)
    with sessions.begin() as session:
        session.execute(text("DELETE FROM jobs"))
    assert_problem(api.post("/v1/jobs", json=TEXTS, headers=KEY), 410, "idempotency-key-spent")
    assert scalar(sessions, "SELECT count(*) FROM jobs") == 0


def test_anything_that_is_made_is_made_once_with_a_key(sessions: Sessions) -> None:
    once = Once(
        "a key", idempotency.fingerprint_of("/v1/api-keys", {"name": "mine", "scopes": ["read"]}), Made.KEY
    )

    def make(once: Once) -> tuple[uuid.UUID, bool]:
        while True:
            with suppress(IdempotencyKeyInUseError):
                return make_now(once)

    def make_now(once: Once) -> tuple[uuid.UUID, bool]:
        with sessions.begin() as session:
            made, new = idempotency.make_once(
                session,
                TENANT,
                once,
                lambda key_id: create_key(session, name="mine", tenant=TENANT, key_id=key_id).row,
                lambda key_id: session.get(ApiKey, key_id),
            )
            return made.id, new

    answers = together(*[lambda: make(once)] * 8)
    assert len({made_id for made_id, _ in answers}) == 1
    assert sum(new for _, new in answers) == 1
    assert scalar(sessions, "SELECT count(*) FROM api_keys") == 1
    again = idempotency.fingerprint_of("/v1/api-keys", {"scopes": ["read"], "name": "mine"})
    assert again == once.fingerprint, "the order of fields says nothing"
    other_path = idempotency.fingerprint_of("/v1/webhook-endpoints", {"name": "mine", "scopes": ["read"]})
    for other in (replace(once, fingerprint=other_path), replace(once, made=Made.JOB)):
        with pytest.raises(IdempotencyKeyReusedError):
            make(other)
    with sessions.begin() as session:
        session.execute(text("DELETE FROM api_keys"))
    with pytest.raises(IdempotencyKeySpentError):
        make(once)


def test_a_key_is_the_tenants_own(api: TestClient, sessions: Sessions) -> None:
    with sessions.begin() as session:
        foreign = create_key(session, name="foreign", tenant="somebody else").key
    mine = api.post("/v1/jobs", json=TEXTS, headers=KEY)
    theirs = api.post("/v1/jobs", json=TEXTS, headers=KEY | {"Authorization": f"Bearer {foreign}"})
    assert REPLAYED not in theirs.headers
    assert mine.json()["id"] != theirs.json()["id"]


def test_a_refused_submit_leaves_its_key_free(api: TestClient) -> None:
    unknown = {"images": [{"image_id": "img_" + "0" * 32}]}
    for body in (TEXTS | {"model": "nobody/knows"}, LENS | {"input": unknown}):
        assert api.post("/v1/jobs", json=body, headers=KEY).status_code == 422
    answer = api.post("/v1/jobs", json=TEXTS, headers=KEY)
    assert (answer.status_code, REPLAYED in answer.headers) == (202, False)


@pytest.mark.parametrize("idempotency_key", [b"", b"x" * 256, b"a\tb", "schlüssel".encode(), b"a\xff"])
def test_an_unusable_key_is_refused(
    api: TestClient, sessions: Sessions, key: str, idempotency_key: bytes
) -> None:
    headers = [(b"Authorization", f"Bearer {key}".encode()), (b"Idempotency-Key", idempotency_key)]
    answer = api.post("/v1/jobs", json=TEXTS, headers=headers)
    assert_problem(answer, 422, "invalid-idempotency-key")
    assert scalar(sessions, "SELECT count(*) FROM jobs") == 0


def test_two_keys_are_refused_and_the_longest_is_taken(api: TestClient) -> None:
    two = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    assert_problem(api.post("/v1/jobs", json=TEXTS, headers=two), 422, "invalid-idempotency-key")
    longest = {"Idempotency-Key": "~" * 255}
    assert api.post("/v1/jobs", json=TEXTS, headers=longest).status_code == 202
