"""What the API refuses: each with its status and its stable code, as a problem, without echoing the input."""

import base64
import json
import shutil
import tracemalloc
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from api.app import create_app
from api.settings import ApiSettings
from jobs.blobs import SENTINEL
from tests.ledger import scalar

DATA = base64.b64encode(b"anything").decode()
IMAGES = {"images": [{"data": DATA}]}
LENS: dict[str, Any] = {"type": "logit_lens", "labels": ["a ring"], "input": IMAGES}
TEXTS: dict[str, Any] = {"type": "embedding", "input": {"texts": ["a ring"]}}
NUL = "a\x00b"


def assert_problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert problem["type"].endswith(code)
    assert problem["detail"]
    assert problem["request_id"] == answer.headers["X-Request-Id"]
    return problem


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (LENS | {"model": "nobody/knows-this"}, "unknown-model"),
        (LENS | {"model": "/etc/passwd"}, "unknown-model"),
        (LENS | {"model": "google/siglip-base-patch32-224"}, "model-does-not-exist"),
        (LENS | {"model": "google/siglip2-so400m-patch16-naflex"}, "model-not-supported"),
        (LENS | {"labels": []}, "no-labels"),
        ({"type": "logit_lens", "input": IMAGES}, "no-labels"),
        (LENS | {"labels": [f"label {number}" for number in range(10_001)]}, "too-many-labels"),
        (LENS | {"labels": ["a ring", "a ring"]}, "duplicate-labels"),
        (LENS | {"labels": ["a ring", " "]}, "invalid-request"),
        (LENS | {"labels": [NUL]}, "invalid-request"),
        (LENS | {"labels": ["x" * 1_001]}, "invalid-request"),
        (LENS | {"labels": [7]}, "invalid-request"),
        (LENS | {"input": {}}, "no-input"),
        (LENS | {"input": {"texts": ["a ring"]}}, "invalid-request"),
        (LENS | {"input": {"images": [{"data": "not base64!"}]}}, "invalid-request"),
        (LENS | {"input": {"images": [{"data": DATA, "custom_id": NUL}]}}, "invalid-request"),
        (LENS | {"input": {"images": [{"url": "http://localhost"}]}}, "urls-not-allowed"),
        (LENS | {"options": {"template": "no place for the label"}}, "invalid-request"),
        (LENS | {"options": {"outputs": ["attention"]}}, "invalid-request"),
        (LENS | {"interventions": [{"layer": 3}]}, "invalid-request"),
        (LENS | {"unheard": "of"}, "invalid-request"),
        (TEXTS | {"options": {"normalize": "yes"}}, "invalid-request"),
        (TEXTS | {"input": {"texts": ["a"], "images": [{"data": DATA}]}}, "invalid-request"),
        (TEXTS | {"input": {"texts": ["a"] * 1_001}}, "too-many-inputs"),
        ({"type": "sing"}, "invalid-request"),
        ({}, "invalid-request"),
        ([], "invalid-request"),
    ],
)
def test_a_job_that_cannot_be_done_is_refused_before_anything_is_stored(
    api: TestClient, sessions: sessionmaker[Session], body: Any, code: str
) -> None:
    assert_problem(api.post("/v1/jobs", json=body), 422, code)
    assert scalar(sessions, "SELECT count(*) FROM jobs") == 0
    assert scalar(sessions, "SELECT count(*) FROM images") == 0


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (LENS | {"input": {"images": [0] * 300_000}}, "too-many-inputs"),
        (TEXTS | {"input": {"texts": [0] * 300_000}}, "too-many-inputs"),
        (LENS | {"labels": [0] * 300_000}, "too-many-labels"),
        (LENS | {"labels": [{"name": "a", "prompts": [0] * 300_000}]}, "invalid-request"),
        (LENS | {"labels": [{"name": "a", "vector": ["x"] * 300_000}]}, "invalid-request"),
        (LENS | {"options": {"outputs": [0] * 300_000}}, "invalid-request"),
        (LENS | {"interventions": [0] * 300_000}, "invalid-request"),
    ],
)
def test_a_list_of_faults_takes_no_more_memory_than_it_must(api: TestClient, body: Any, code: str) -> None:
    content = json.dumps(body)
    tracemalloc.start()
    try:
        problem = assert_problem(
            api.post("/v1/jobs", content=content, headers={"Content-Type": "application/json"}), 422, code
        )
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(problem["errors"]) <= 100
    # a fault of each element would be a kilobyte of each
    assert peak_bytes < 30 * len(content) + 20_000_000


def test_a_job_part_that_is_too_large_is_called_so(api: TestClient) -> None:
    job = json.dumps(LENS) + " " * (16 * 1024 * 1024)
    answer = api.post("/v1/jobs", files=[("job", ("job.json", job, "application/json"))])
    assert_problem(answer, 413, "body-too-large")


def test_nothing_is_stored_for_a_job_with_one_bad_picture_among_good_ones(
    api: TestClient, settings: ApiSettings
) -> None:
    images = [{"data": DATA}] * 5 + [{"data": "AAA"}]
    problem = assert_problem(
        api.post("/v1/jobs", json=LENS | {"input": {"images": images}}), 422, "invalid-request"
    )
    assert problem["errors"][0]["pointer"] == "/input/images/5/data"
    assert [path.name for path in settings.blobs.iterdir()] == [SENTINEL]


def test_texts_and_pictures_together_are_refused_in_multipart_too(api: TestClient) -> None:
    answer = api.post(
        "/v1/jobs", data={"job": json.dumps(TEXTS)}, files=[("images", ("a.jpg", b"x", "image/jpeg"))]
    )
    assert_problem(answer, 422, "invalid-request")


@pytest.mark.parametrize("charset", ["unicode_escape", "utf-7", "undefined", "nonsense"])
def test_a_charset_that_cannot_be_read_is_a_bad_request(api: TestClient, charset: str) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="job"\r\n\r\n{"type":"\\ud800+2AA-"}\r\n--x--\r\n'
    answer = api.post(
        "/v1/jobs",
        content=body,
        headers={"Content-Type": f"multipart/form-data; boundary=x; charset={charset}"},
    )
    assert answer.status_code in {400, 422}
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    "body",
    [LENS | {"model": "x" * 100_000}, {"type": "x" * 100_000}, LENS | {"x" * 100_000: 1}],
)
def test_the_input_is_not_echoed(api: TestClient, body: Any) -> None:
    answer = api.post("/v1/jobs", json=body)
    assert_problem(answer, 422, "invalid-request")
    assert len(answer.content) < 2_000


def test_a_fault_of_ours_is_found_in_the_log_by_its_id_and_shows_no_key(
    api: TestClient, key: str, settings: ApiSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(settings.blobs)
    settings.blobs.write_text("a file where the folder was")
    answer = api.post("/v1/jobs", json=LENS)
    problem = assert_problem(answer, 500, "internal")
    logged = capsys.readouterr().out
    assert problem["request_id"] in logged
    assert "NotADirectoryError" in logged
    assert key not in logged
    assert settings.database_url not in logged


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (LENS | {"model": "nobody/knows-this"}, "unknown-model"),
        (LENS | {"model": "google/siglip-base-patch32-224"}, "model-does-not-exist"),
    ],
)
def test_a_refused_model_comes_with_what_is_supported(api: TestClient, body: Any, code: str) -> None:
    detail = assert_problem(api.post("/v1/jobs", json=body), 422, code)["detail"]
    assert "google/siglip-so400m-patch14-384" in detail
    assert "google/siglip-base-patch16-224" in detail


def test_a_fault_is_pointed_at(api: TestClient) -> None:
    problem = assert_problem(
        api.post("/v1/jobs", json=LENS | {"labels": ["a ring", 7]}), 422, "invalid-request"
    )
    assert [error["pointer"] for error in problem["errors"]] == ["/labels/1"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"type": NaN}',
        b"\xff\xfe",
        b'{"type": "\\ud800"}',
        b"[" * 200_000,
        b'{"a":' * 200_000,
    ],
)
def test_malformed_json_is_a_bad_request(api: TestClient, body: bytes) -> None:
    answer = api.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    assert_problem(answer, 400, "malformed-body")


@pytest.mark.parametrize("body", [b"1e999", b'{"type": 1e999}', b'{"type": -9.0}'])
def test_odd_numbers_are_refused_and_not_echoed(api: TestClient, body: bytes) -> None:
    answer = api.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in {400, 422}
    assert answer.json()["code"] in {"malformed-body", "invalid-request"}


def test_no_key_and_a_wrong_key_are_told_apart(api: TestClient) -> None:
    for headers, code in (
        ({"Authorization": ""}, "unauthenticated"),
        ({"Authorization": "Basic abc"}, "unauthenticated"),
        ({"Authorization": "Bearer "}, "unauthenticated"),
        ({"Authorization": "Bearer lq_wrong"}, "invalid-key"),
    ):
        for answer in (
            api.post("/v1/jobs", json=TEXTS, headers=headers),
            api.get("/v1/jobs/job_" + "0" * 32, headers=headers),
            api.get("/v1/workers", headers=headers),
        ):
            assert_problem(answer, 401, code)
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_the_key_is_asked_for_before_the_body_is_read(settings: ApiSettings) -> None:
    small = settings.model_copy(update={"max_body_bytes": 10})
    with TestClient(create_app(small)) as api:
        # reading any of it would have answered 413
        assert_problem(api.post("/v1/jobs", json=TEXTS), 401, "unauthenticated")


def test_a_body_over_the_limit_is_refused(settings: ApiSettings, key: str) -> None:
    small = settings.model_copy(update={"max_body_bytes": 1_000, "max_json_bytes": 500})
    with TestClient(create_app(small), headers={"Authorization": f"Bearer {key}"}) as api:
        assert_problem(api.post("/v1/jobs", json=LENS | {"labels": ["x" * 2_000]}), 413, "body-too-large")
        assert_problem(api.post("/v1/jobs", json=LENS | {"labels": ["x" * 600]}), 413, "body-too-large")
        chunks = (b"x" * 100 for _ in range(100))
        answer = api.post("/v1/jobs", content=chunks, headers={"Content-Type": "application/json"})
        assert_problem(answer, 413, "body-too-large")
        answer = api.post(
            "/v1/jobs",
            data={"job": json.dumps(LENS)},
            files=[("images", ("a.jpg", b"x" * 2_000, "image/jpeg"))],
        )
        assert_problem(answer, 413, "body-too-large")


def test_other_media_types_are_refused(api: TestClient) -> None:
    for headers in ({"Content-Type": "text/plain"}, {"Content-Type": "application/x-www-form-urlencoded"}):
        assert_problem(api.post("/v1/jobs", content=b"x", headers=headers), 415, "unsupported-media-type")


@pytest.mark.parametrize(
    ("data", "files", "code"),
    [
        ({}, [("images", ("a.jpg", b"x", "image/jpeg"))], "invalid-request"),
        ({"job": "{"}, [("images", ("a.jpg", b"x", "image/jpeg"))], "malformed-body"),
        ({"job": json.dumps(LENS)}, [("images", ("a.jpg", b"x", "image/jpeg"))], "invalid-request"),
        (
            {"job": json.dumps({"type": "embedding"})},
            [("pictures", ("a.jpg", b"x", "image/jpeg"))],
            "invalid-request",
        ),
        (
            {"job": json.dumps({"type": "embedding"}), "images": "text"},
            [("x", ("a", b"x", "text/plain"))],
            "invalid-request",
        ),
    ],
)
def test_a_multipart_body_of_another_shape_is_refused(
    api: TestClient, data: dict[str, str], files: Any, code: str
) -> None:
    assert api.post("/v1/jobs", data=data, files=files).json()["code"] == code


def test_more_pictures_than_a_job_may_hold_are_refused(settings: ApiSettings, key: str) -> None:
    small = settings.model_copy(update={"max_job_items": 2})
    with TestClient(create_app(small), headers={"Authorization": f"Bearer {key}"}) as api:
        for count in (3, 4):
            answer = api.post(
                "/v1/jobs",
                data={"job": json.dumps({"type": "embedding"})},
                files=[("images", (f"{number}.jpg", b"x", "image/jpeg")) for number in range(count)],
            )
            assert_problem(answer, 422, "too-many-inputs")


@pytest.mark.parametrize("wire_id", ["job_1", "job_" + "0" * 32, "img_" + "0" * 32, "%00", "x" * 4_000])
def test_an_unknown_id_is_not_found(api: TestClient, wire_id: str) -> None:
    assert_problem(api.get(f"/v1/jobs/{wire_id}"), 404, "not-found")


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "page_token=!", "page_token=AAAA"])
def test_bad_paging_is_refused(api: TestClient, query: str) -> None:
    job = api.post("/v1/jobs", json=TEXTS).json()
    assert_problem(api.get(f"{job['links']['results']}?{query}"), 422, "invalid-request")


def test_unknown_paths_and_methods_are_problems_too(api: TestClient) -> None:
    assert_problem(api.get("/v1/nothing"), 404, "not-found")
    assert_problem(api.put("/v1/jobs"), 405, "method-not-allowed")


def test_a_lost_database_is_unavailable_and_accepts_nothing(settings: ApiSettings, key: str) -> None:
    gone = settings.model_copy(update={"database_url": "postgresql+psycopg://x@localhost:1/x"})
    with TestClient(create_app(gone), headers={"Authorization": f"Bearer {key}"}) as api:
        answer = api.post("/v1/jobs", json=TEXTS)
        assert_problem(answer, 503, "unavailable")
        assert answer.headers["Retry-After"]
        assert api.get("/readyz").status_code == 503
        assert api.get("/healthz").status_code == 200
