"""What holds for every operation alike, whoever wrote it: methods, queries, keys, and the examples."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from api.app import create_app
from api.openapi import document, operations
from api.settings import ApiSettings
from jobs.keys import create_key
from models.types import Scope
from tests.integration.test_bad_requests import assert_problem
from tests.ledger import TENANT

DOCUMENT = document(
    create_app(ApiSettings(database_url="postgresql+psycopg://", broker_url="redis://", blobs=Path()))
)
OPERATIONS = [
    pytest.param(path, method, operation, id=operation["operationId"])
    for path, method, operation in operations(DOCUMENT)
]
REQUESTS = [
    pytest.param(path, method, media_type, example["value"], id=f"{operation['operationId']}-{name}")
    for path, method, operation in operations(DOCUMENT)
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items()
    for name, example in content.get("examples", {}).items()
]


@pytest.fixture
def key(sessions: sessionmaker[Session]) -> str:
    """A key that may do everything."""
    with sessions.begin() as session:
        return create_key(session, name="tests", tenant=TENANT, scopes=list(Scope)).key


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS)
def test_an_unknown_parameter_is_refused(
    api: TestClient, path: str, method: str, operation: dict[str, Any]
) -> None:
    problem = assert_problem(
        api.request(method, f"{_somewhere(path)}?no_such_parameter=1"), 422, "invalid-request"
    )
    assert problem["errors"] == [{"pointer": "/no_such_parameter", "message": problem["detail"]}]


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS)
def test_another_method_hears_of_all_that_the_path_takes(
    api: TestClient, path: str, method: str, operation: dict[str, Any]
) -> None:
    answer = api.request("TRACE", _somewhere(path))
    assert_problem(answer, 405, "method-not-allowed")
    allowed = [method for method in answer.headers["Allow"].lower().split(", ") if method != "head"]
    # HEAD is in no document: it is GET less the body
    assert allowed == sorted(set(DOCUMENT["paths"][path]))


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS)
def test_what_needs_a_key_says_so_before_all_else(
    api: TestClient, path: str, method: str, operation: dict[str, Any]
) -> None:
    answer = api.request(method, f"{_somewhere(path)}?no_such_parameter=1", headers={"Authorization": ""})
    if operation["security"]:
        assert_problem(answer, 401, "unauthenticated")
    else:
        assert answer.status_code == 422


@pytest.mark.parametrize(("path", "method", "media_type", "example"), REQUESTS)
def test_a_request_of_the_examples_is_accepted(
    api: TestClient, path: str, method: str, media_type: str, example: Any
) -> None:
    body = _body(media_type, example)
    answer = api.request(method, _somewhere(path), **body)
    if "{" in path:
        # the body was read and found good: what is missing is what the path names
        assert_problem(answer, 404, "not-found")
    elif path in NAMING_JOBS:
        assert_problem(answer, 422, "unknown-job")
    else:
        assert answer.is_success, answer.text


def test_no_path_leads_to_another(api: TestClient) -> None:
    assert_problem(api.get("/v1/jobs/", follow_redirects=False), 404, "not-found")


def test_an_integer_may_be_written_as_a_number_and_a_boolean_may_not(api: TestClient) -> None:
    job = {"type": "embedding", "input": {"texts": ["a ring"]}}
    assert api.post("/v1/jobs", json=job | {"run_timeout_s": 60.0}).status_code == 202
    for wrong in (True, 60.5, "60"):
        assert_problem(api.post("/v1/jobs", json=job | {"run_timeout_s": wrong}), 422, "invalid-request")


def test_whoever_opens_the_service_is_led_to_its_page(api: TestClient) -> None:
    led = api.get("/", headers={"Authorization": ""}, follow_redirects=False)
    assert (led.status_code, led.headers["Location"]) == (307, "/docs")
    for path in ("/", "/docs", "/docs/start.js"):
        headed = api.head(path, headers={"Authorization": ""}, follow_redirects=True)
        assert (headed.status_code, headed.content) == (200, b""), path
    assert_problem(api.get("/elsewhere", headers={"Authorization": ""}), 404, "not-found")
    assert_problem(api.post("/"), 405, "method-not-allowed")


def test_the_page_of_the_document_loads_nothing_from_elsewhere(api: TestClient) -> None:
    page = api.get("/docs", headers={"Authorization": ""})
    assert page.headers["Content-Type"].startswith("text/html")
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"https?:", policy)
    loaded = _Loaded()
    loaded.feed(page.text)
    assert len(loaded.urls) == 4
    for url in loaded.urls:
        assert url == "data:," or url.startswith("/docs/")
        if url.startswith("/"):
            file = api.get(url, headers={"Authorization": ""})
            assert file.status_code == 200
            assert url.endswith(".js") or not re.search(r"@import|url\((?![\"']?data:)", file.text)
    assert not loaded.inline
    assert api.get("/docs/start.js").text.count("http") == 0
    for elsewhere in ("index.htm", "%2e%2e%2fapp.py", "README.md"):
        assert_problem(api.get(f"/docs/{elsewhere}"), 404, "not-found")


class _Loaded(HTMLParser):
    """What a page loads, and whether it has scripts or styles of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []
        self.inline = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.urls += [str(given[name]) for name in ("src", "href") if name in given]
        self.inline |= tag == "style" or (tag == "script" and "src" not in given) or "style" in given


NAMING_JOBS = ("/v1/comparisons", "/v1/drifts")
"""Paths to which a good body names jobs that nobody has."""
SOURCES = ("archive", "manifest")
"""Parts of a form that are files, beside pictures."""


def _somewhere(path: str) -> str:
    """The path with ids that nobody has."""
    return re.sub(r"\{(\w+)\}", lambda found: "0" if found[1] == "index" else "nobodys", path)


def _body(media_type: str, example: Any) -> dict[str, Any]:
    if media_type == "application/json":
        return {"json": example}
    files = [("images", ("picture.gif", data.encode(), "image/gif")) for data in example.get("images", ())]
    files += [(name, (name, example[name].encode(), "")) for name in SOURCES if name in example]
    parts = {
        name: (None, json.dumps(value)) for name, value in example.items() if name not in {"images", *SOURCES}
    }
    return {"files": [*parts.items(), *files]}
