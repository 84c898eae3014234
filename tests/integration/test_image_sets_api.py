"""Image sets over HTTP: made, changed, sealed, read, and nobody else's."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from api.settings import ApiSettings
from jobs.keys import create_key
from models.types import Scope
from tests.integration.test_bad_requests import assert_problem
from tests.ledger import TENANT
from tests.sets import (
    HERE,
    NOBODYS_SET,
    NOBODYS_VERSION,
    OTHER,
    files_of,
    items_of,
    make,
    operations,
    seal,
    send,
)

Sessions = sessionmaker[Session]


@pytest.fixture
def set_id(api: TestClient) -> str:
    return make(api)


@pytest.fixture
def foreign(sessions: Sessions) -> dict[str, str]:
    """The header of another tenant."""
    with sessions.begin() as session:
        key = create_key(session, name="foreign", tenant="somebody else").key
    return {"Authorization": f"Bearer {key}"}


def test_a_new_set_has_an_open_version_that_is_empty(api: TestClient) -> None:
    said = {"name": "shapes", "source": "drawn", "licence": "CC0-1.0", "notes": "by hand"}
    answer = api.post(HERE, json=said)
    made = answer.json()
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"{HERE}/{made['id']}"
    assert {name: made[name] for name in said} == said
    (version,) = made["versions"]
    assert version == made["last_version"]
    assert (version["number"], version["items"], version["sealed_at"]) == (1, 0, None)
    assert version["manifest_sha256"] is None
    assert api.get(answer.headers["Location"]).json() == made
    listed = {name: value for name, value in made.items() if name != "versions"}
    assert api.get(HERE).json() == {"items": [listed], "next_page_token": None}


def test_a_set_is_made_once_by_its_key(api: TestClient) -> None:
    once = {"Idempotency-Key": "one"}
    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(lambda _: make(api, **once), range(20)))
    assert len(made) == 1
    again = api.post(HERE, json={"name": "shapes"}, headers=once)
    assert (again.status_code, again.headers["Idempotency-Replayed"]) == (201, "true")
    assert_problem(api.post(HERE, json={"name": "b"}, headers=once), 422, "idempotency-key-reused")
    assert api.delete(f"{HERE}/{made.pop()}").status_code == 204
    assert_problem(api.post(HERE, json={"name": "shapes"}, headers=once), 410, "idempotency-key-spent")


def test_pages_of_sets_are_newest_first(api: TestClient) -> None:
    made = [make(api) for _ in range(5)]
    shown, token = [], None
    while True:
        page = api.get(HERE, params={"limit": 2} | ({"page_token": token} if token else {})).json()
        shown += [each["id"] for each in page["items"]]
        token = page["next_page_token"]
        if token is None:
            break
    assert shown == made[::-1]


def test_what_is_said_of_a_set_can_be_changed(api: TestClient, set_id: str) -> None:
    changed = api.patch(f"{HERE}/{set_id}", json={"name": "forms", "notes": "new"})
    assert changed.status_code == 200
    shown = api.get(f"{HERE}/{set_id}").json()
    assert shown == changed.json()
    assert (shown["name"], shown["notes"], shown["source"]) == ("forms", "new", "")
    assert api.patch(f"{HERE}/{set_id}", json={"notes": ""}).json()["notes"] == ""
    assert api.patch(f"{HERE}/{set_id}", json={}).json()["name"] == "forms"


def test_a_sealed_version_is_named_by_the_bytes_of_its_manifest(
    api: TestClient, set_id: str, picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.routes.image_set_versions.LINES_AT_ONCE", 2)
    send(api, set_id, ("a.jpg", picture), ("b.jpg", b""), ("c.jpg", OTHER))
    opened = api.get(f"{HERE}/{set_id}").json()["last_version"]
    manifest = f"/v1/image-set-versions/{opened['id']}/manifest"
    assert_problem(api.get(manifest), 409, "not-sealed")
    sealed = seal(api, set_id)
    assert sealed["sealed_at"] is not None
    assert seal(api, set_id) == sealed
    fetched = api.get(manifest)
    assert fetched.headers["Content-Type"] == "application/x-ndjson"
    assert hashlib.sha256(fetched.content).hexdigest() == sealed["manifest_sha256"]
    assert fetched.headers["ETag"] == f'"{sealed["manifest_sha256"]}"'
    lines = [orjson.loads(line) for line in fetched.content.splitlines()]
    assert [line["error"] for line in lines] == [None, "image-empty", None]
    known = api.get(manifest, headers={"If-None-Match": fetched.headers["ETag"]})
    assert (known.status_code, known.content) == (304, b"")


def test_what_is_added_after_sealing_makes_the_next_version(
    api: TestClient, set_id: str, picture: bytes
) -> None:
    send(api, set_id, ("a.jpg", picture))
    first = seal(api, set_id)
    added = send(api, set_id, ("b.jpg", OTHER)).json()
    assert added["first"] == 1
    second = seal(api, set_id)
    assert second["id"] == added["version_id"] != first["id"]
    shown = api.get(f"{HERE}/{set_id}").json()
    assert shown["versions"] == [second, first]
    assert shown["last_version"] == second
    for version in (first, second):
        assert api.get(f"{HERE}/{set_id}/versions/{version['number']}").json() == version
        assert api.get(f"/v1/image-set-versions/{version['id']}").json() == version
    assert [item["custom_id"] for item in items_of(api, first["id"])] == ["a.jpg"]
    assert [item["custom_id"] for item in items_of(api, second["id"])] == ["a.jpg", "b.jpg"]
    assert_problem(api.get(f"{HERE}/{set_id}/versions/3"), 404, "not-found")


def test_a_set_without_a_picture_is_not_sealed(api: TestClient, set_id: str) -> None:
    assert_problem(api.post(f"{HERE}/{set_id}/seal"), 409, "empty-set")
    send(api, set_id, ("a.jpg", b""))
    assert_problem(api.post(f"{HERE}/{set_id}/seal"), 409, "empty-set")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "", {}),
        ("POST", "", {"name": ""}),
        ("POST", "", {"name": 7}),
        ("POST", "", {"name": "a" * 201}),
        ("POST", "", {"name": "a\x00"}),
        ("POST", "", {"name": "a", "tenant": "others"}),
        ("POST", "", {"name": "a", "notes": "a" * 3_001}),
        ("PATCH", f"/{NOBODYS_SET}", {"name": None}),
        ("PATCH", f"/{NOBODYS_SET}", {"sealed_at": None}),
        ("POST", f"/{NOBODYS_SET}/items", {}),
        ("POST", f"/{NOBODYS_SET}/items", []),
        ("POST", f"/{NOBODYS_SET}/items", {"items": []}),
        ("POST", f"/{NOBODYS_SET}/items", {"items": {}}),
        ("POST", f"/{NOBODYS_SET}/items", {"items": [{"custom_id": "a"}]}),
        ("POST", f"/{NOBODYS_SET}/items", {"items": [{"image_id": "img_1", "custom_id": ""}]}),
        ("POST", f"/{NOBODYS_SET}/items", {"items": [{"image_id": "img_1", "true_label": 7}]}),
        ("POST", f"/{NOBODYS_SET}/items", {"items": [{"image_id": "img_1", "split": "\x00"}]}),
        ("POST", f"/{NOBODYS_SET}/items", {"items": [{"image_id": "img_1", "index": 0}]}),
    ],
)
def test_bad_fields_are_refused(method: str, path: str, body: Any, api: TestClient) -> None:
    assert_problem(api.request(method, HERE + path, json=body), 422, "invalid-request")


def test_a_set_of_others_is_answered_as_nobodys(
    api: TestClient, set_id: str, picture: bytes, foreign: dict[str, str], settings: ApiSettings
) -> None:
    send(api, set_id, ("a.jpg", picture))
    version_id = seal(api, set_id)["id"]
    before = api.get(f"{HERE}/{set_id}").json()
    pairs = zip(operations(set_id, version_id), operations(NOBODYS_SET, NOBODYS_VERSION), strict=True)
    for (method, theirs, body), (_, nobodys, _) in pairs:
        said = [
            assert_problem(api.request(method, path, headers=foreign, **body), 404, "not-found")
            | {"request_id": ""}
            for path in (theirs, nobodys)
        ]
        assert said[0] == said[1]
    assert api.get(f"{HERE}/{set_id}").json() == before
    assert api.get(HERE, headers=foreign).json()["items"] == []
    # and what they sent to it was not stored
    assert len(files_of(settings.blobs)) == 1


@pytest.mark.parametrize("wire_id", ["ims_1", NOBODYS_VERSION, "job_" + "0" * 32, "%00", "x" * 4_000])
def test_what_is_no_id_of_a_set_is_not_found(api: TestClient, wire_id: str) -> None:
    assert_problem(api.get(f"{HERE}/{wire_id}"), 404, "not-found")
    assert_problem(api.get(f"/v1/image-set-versions/{wire_id}x"), 404, "not-found")


def test_a_key_that_reads_makes_and_changes_nothing(
    settings: ApiSettings, sessions: Sessions, api: TestClient, set_id: str
) -> None:
    with sessions.begin() as session:
        reader = create_key(session, name="reader", tenant=TENANT, scopes=[Scope.READ]).key
    header = {"Authorization": f"Bearer {reader}"}
    assert api.get(f"{HERE}/{set_id}", headers=header).status_code == 200
    version_id = api.get(f"{HERE}/{set_id}").json()["last_version"]["id"]
    for method, path, body in operations(set_id, version_id):
        if method != "GET":
            assert_problem(api.request(method, path, headers=header, **body), 403, "insufficient-scope")
    assert_problem(api.post(HERE, json={"name": "a"}, headers=header), 403, "insufficient-scope")
