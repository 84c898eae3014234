"""Items of image sets over HTTP: named or sent, with errors in their places, and read again."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from api.settings import ApiSettings
from jobs.blobs import BlobStore
from jobs.errors import BlobStoreFullError
from jobs.keys import create_key
from tests.integration.test_bad_requests import assert_problem
from tests.ledger import scalar
from tests.sets import (
    HERE,
    OTHER,
    add,
    files_of,
    items_of,
    make,
    seal,
    send,
    small,
    upload,
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


def test_several_labels_may_be_true_of_an_item_but_not_beside_one(
    api: TestClient, set_id: str, picture: bytes
) -> None:
    several = {"image_id": upload(api, picture), "true_labels": ["a ring", "a star"]}
    (shown,) = items_of(api, add(api, set_id, several).json()["version_id"])
    assert (shown["true_label"], shown["true_labels"]) == (None, ["a ring", "a star"])
    wrongs: list[dict[str, Any]] = [
        {"true_label": "a ring"},
        {"true_labels": []},
        {"true_labels": ["a ring", "a ring"]},
    ]
    for wrong in wrongs:
        assert_problem(add(api, set_id, several | wrong), 422, "invalid-request")


def test_images_are_added_by_their_ids(api: TestClient, set_id: str, picture: bytes) -> None:
    image_id = upload(api, picture)
    answer = add(
        api,
        set_id,
        {"image_id": image_id, "custom_id": "a", "true_label": "a ring", "split": "test"},
        {"image_id": image_id},
    )
    added = answer.json()
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"/v1/image-set-versions/{added['version_id']}"
    assert (added["first"], added["items"], added["failed"]) == (0, 2, 0)
    first, second = items_of(api, added["version_id"])
    sha256 = hashlib.sha256(picture).hexdigest()
    assert first == {
        "index": 0,
        "custom_id": "a",
        "state": "succeeded",
        "image_id": image_id,
        "sha256": sha256,
        "image_bytes": len(picture),
        "true_label": "a ring",
        "true_labels": None,
        "split": "test",
        "error": None,
    }
    assert (second["index"], second["custom_id"], second["true_label"]) == (1, None, None)
    version = api.get(answer.headers["Location"]).json()
    assert (version["items"], version["labelled"]) == (2, 1)
    assert version["image_bytes"] == 2 * len(picture)


def test_files_are_called_as_they_were_sent_and_stored_once(
    api: TestClient, set_id: str, picture: bytes, sessions: Sessions, settings: ApiSettings
) -> None:
    assert send(api, set_id, ("a.jpg", picture), ("b.jpg", picture)).status_code == 201
    said = [{"custom_id": "third", "true_label": "a ring"}, {"split": "test"}]
    added = send(api, set_id, ("c.jpg", picture), ("d.jpg", OTHER), said=said).json()
    assert (added["first"], added["items"], added["failed"]) == (2, 2, 0)
    items = items_of(api, added["version_id"])
    shown = [(item["custom_id"], item["true_label"], item["split"]) for item in items]
    assert shown == [
        ("a.jpg", None, None),
        ("b.jpg", None, None),
        ("third", "a ring", None),
        ("d.jpg", None, "test"),
    ]
    assert len({item["image_id"] for item in items}) == 2
    assert scalar(sessions, "SELECT count(*) FROM images") == 2
    assert len(files_of(settings.blobs)) == 2


def test_a_file_that_is_no_picture_is_an_item_with_its_error(
    settings: ApiSettings, key: str, picture: bytes
) -> None:
    files = [
        ("good.jpg", picture),
        ("torn.jpg", picture[: len(picture) // 2]),
        ("empty.jpg", b""),
        ("notes.txt", b"no picture at all"),
        ("large.jpg", picture + b"\xff"),
    ]
    with small(settings, key, max_image_bytes=len(picture)) as api:
        set_id = make(api)
        added = send(api, set_id, *files, said=[{"true_label": "a ring"}] * len(files)).json()
        assert (added["items"], added["failed"]) == (5, 4)
        items = items_of(api, added["version_id"])
        assert [item["custom_id"] for item in items] == [name for name, _ in files]
        assert [item["error"] and item["error"]["code"] for item in items] == [
            None,
            "image-truncated",
            "image-empty",
            "not-an-image",
            "image-too-large",
        ]
        assert items_of(api, added["version_id"], state="failed") == items[1:]
        assert all(item["true_label"] == "a ring" and item["image_id"] is None for item in items[1:])
        version = seal(api, set_id)
        assert (version["items"], version["failed"], version["labelled"]) == (5, 4, 5)


def test_a_name_that_is_taken_refuses_the_request_before_anything_is_stored(
    api: TestClient, set_id: str, picture: bytes, settings: ApiSettings
) -> None:
    send(api, set_id, ("a.jpg", picture))
    for files in ([("b.jpg", OTHER), ("a.jpg", OTHER)], [("b.jpg", OTHER), ("b.jpg", OTHER)]):
        problem = assert_problem(send(api, set_id, *files), 422, "duplicate-custom-id")
        assert [error["pointer"] for error in problem["errors"]] == ["/items/1/custom_id"]
    assert len(files_of(settings.blobs)) == 1
    version = seal(api, set_id)
    assert version["items"] == 1
    # nor in the version that would follow
    assert_problem(send(api, set_id, ("a.jpg", OTHER)), 422, "duplicate-custom-id")


def test_fifty_at_once_are_all_added_and_indexed_densely(
    api: TestClient, set_id: str, picture: bytes
) -> None:
    def one(number: int) -> int:
        answer = send(api, set_id, (f"{number}.jpg", picture), (f"{number}-torn.jpg", b""))
        assert answer.status_code == 201, answer.text
        return int(answer.json()["first"])

    with ThreadPoolExecutor(16) as pool:
        firsts = list(pool.map(one, range(50)))
    assert sorted(firsts) == list(range(0, 100, 2))
    version = seal(api, set_id)
    assert (version["items"], version["failed"]) == (100, 50)
    items = items_of(api, version["id"], limit=100)
    assert [item["index"] for item in items] == list(range(100))
    assert [items[first]["custom_id"] for first in firsts] == [f"{number}.jpg" for number in range(50)]


def test_items_are_added_once_by_their_key(
    api: TestClient, set_id: str, picture: bytes, foreign: dict[str, str]
) -> None:
    image_id = upload(api, picture)
    once = {"Idempotency-Key": "one"}
    where, named = f"{HERE}/{set_id}/items", {"items": [{"image_id": image_id}]}

    def one(_: int) -> Any:
        answer = api.post(where, json=named, headers=once)
        assert answer.status_code == 201, answer.text
        return answer.json()

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(one, range(50)))
    assert answers == [answers[0]] * 50
    assert api.get(f"{HERE}/{set_id}").json()["last_version"]["items"] == 1
    again = api.post(where, json=named, headers=once)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Location"] == f"/v1/image-set-versions/{answers[0]['version_id']}"
    other = {"items": [{"image_id": image_id, "true_label": "a ring"}]}
    assert_problem(api.post(where, json=other, headers=once), 422, "idempotency-key-reused")
    assert_problem(api.post(where, json=named, headers=once | foreign), 404, "not-found")


def test_files_are_added_once_by_their_key_also_when_the_set_was_sealed(
    api: TestClient, set_id: str, picture: bytes
) -> None:
    once = {"Idempotency-Key": "one"}
    where = f"{HERE}/{set_id}/items"

    def one(_: int = 0, torn: bytes = b"torn") -> Any:
        files = [("images", ("a.jpg", picture)), ("images", ("torn.jpg", torn))]
        return api.post(where, files=files, headers=once)

    with ThreadPoolExecutor(16) as pool:
        answers = [answer.json() for answer in pool.map(one, range(50))]
    assert answers == [answers[0]] * 50
    assert (answers[0]["first"], answers[0]["items"], answers[0]["failed"]) == (0, 2, 1)
    assert seal(api, set_id)["items"] == 2
    assert one().json() == answers[0]
    assert len(api.get(f"{HERE}/{set_id}").json()["versions"]) == 1
    for other in (one(torn=b"other"), api.post(HERE, json={"name": "a"}, headers=once)):
        assert_problem(other, 422, "idempotency-key-reused")
    api.delete(f"{HERE}/{set_id}")
    assert_problem(one(), 404, "not-found")


def test_a_key_of_items_that_were_refused_is_free(api: TestClient, set_id: str, picture: bytes) -> None:
    where, once = f"{HERE}/{set_id}/items", {"Idempotency-Key": "one"}
    unknown = {"items": [{"image_id": f"img_{'0' * 32}"}]}
    assert_problem(api.post(where, json=unknown, headers=once), 422, "unknown-image")
    named = {"items": [{"image_id": upload(api, picture)}]}
    assert api.post(where, json=named, headers=once).status_code == 201


def test_of_fifty_with_one_name_one_is_added(api: TestClient, set_id: str, picture: bytes) -> None:
    with ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(lambda _: send(api, set_id, ("a.jpg", picture)).status_code, range(50)))
    assert sorted(statuses) == [201] + [422] * 49
    assert seal(api, set_id)["items"] == 1


def test_no_more_items_are_taken_than_there_may_be(settings: ApiSettings, key: str, picture: bytes) -> None:
    with small(settings, key, max_request_set_items=2, max_set_items=3) as api:
        set_id, image_id = make(api), upload(api, picture)
        named = {"image_id": image_id}
        for answer in (
            add(api, set_id, *[named] * 3),
            send(api, set_id, ("a", picture), said=[{}] * 3),
        ):
            problem = assert_problem(answer, 422, "too-many-inputs")
            assert problem["errors"][0]["pointer"] == "/items"
        assert_problem(send(api, set_id, *[("a", picture)] * 3), 422, "too-many-inputs")
        assert add(api, set_id, *[named] * 2).status_code == 201
        assert_problem(send(api, set_id, ("a", OTHER), ("b", OTHER)), 422, "too-many-items")
        assert_problem(add(api, set_id, *[named] * 2), 422, "too-many-items")
        assert len(files_of(settings.blobs)) == 1


def test_unknown_images_are_pointed_at(
    api: TestClient, set_id: str, picture: bytes, foreign: dict[str, str]
) -> None:
    mine = upload(api, picture)
    theirs = api.post("/v1/images", files={"images": picture}, headers=foreign).json()["items"][0]["id"]
    named = [{"image_id": each} for each in (mine, theirs, f"img_{'0' * 32}", "nothing", set_id)]
    problem = assert_problem(add(api, set_id, *named), 422, "unknown-image")
    assert [error["pointer"] for error in problem["errors"]] == [
        f"/items/{place}/image_id" for place in (1, 2, 3, 4)
    ]
    assert api.get(f"{HERE}/{set_id}").json()["last_version"]["items"] == 0


def test_bodies_that_hold_no_items_are_refused(api: TestClient, set_id: str, picture: bytes) -> None:
    where = f"{HERE}/{set_id}/items"
    for content, media_type, status, code in (
        (b"{", "application/json", 400, "malformed-body"),
        (b'{"items": ["\xff"]}', "application/json", 400, "malformed-body"),
        (picture, "image/jpeg", 415, "unsupported-media-type"),
        (b" " * (16 * 1024 * 1024 + 1), "application/json", 413, "body-too-large"),
        (b"--x--\r\n", "multipart/form-data; boundary=x", 422, "no-input"),
    ):
        answer = api.post(where, content=content, headers={"Content-Type": media_type})
        assert_problem(answer, status, code)
    assert_problem(api.post(where, files={"other": picture}), 422, "invalid-request")
    for said, pointer in (
        ([{}, {}], "/items"),
        ({}, "/items"),
        ([{"image_id": "img_1"}], "/items/0/image_id"),
        ([{"true_label": ""}], "/items/0/true_label"),
    ):
        problem = assert_problem(send(api, set_id, ("a", picture), said=said), 422, "invalid-request")
        assert [error["pointer"] for error in problem["errors"]] == [pointer]
    twice: Any = [("images", ("a", picture)), *[("items", (None, "[{}]"))] * 2]
    assert_problem(api.post(where, files=twice), 422, "invalid-request")
    torn: Any = [("images", ("a", picture)), ("items", (None, "[{"))]
    assert_problem(api.post(where, files=torn), 400, "malformed-body")
    assert api.get(f"{HERE}/{set_id}").json()["last_version"]["items"] == 0


def test_behind_a_large_version_items_are_added_to_its_copy(
    api: TestClient, set_id: str, picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("api.set_items", "jobs.copying"):
        monkeypatch.setattr(f"{module}.COPIED_AT_ONCE", 2)
    image = upload(api, picture)
    named = [{"image_id": image, "custom_id": f"{number}"} for number in range(5)]
    assert add(api, set_id, *named).status_code == 201
    first = seal(api, set_id)
    late = add(api, set_id, {"image_id": image, "custom_id": "late"})
    assert (late.status_code, late.json()["first"]) == (201, 5)
    second = seal(api, set_id)
    assert (first["items"], second["items"], second["number"]) == (5, 6, 2)
    names = [item["custom_id"] for item in items_of(api, second["id"])]
    assert names == ["0", "1", "2", "3", "4", "late"]
    # sealed again, nothing is begun
    assert seal(api, set_id)["id"] == second["id"]


def test_what_is_refused_behind_a_large_version_begins_none(
    api: TestClient, set_id: str, picture: bytes, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("api.set_items", "jobs.copying"):
        monkeypatch.setattr(f"{module}.COPIED_AT_ONCE", 2)
    add(api, set_id, *[{"image_id": upload(api, picture)}] * 3)
    sealed = seal(api, set_id)
    assert_problem(add(api, set_id, {"image_id": f"img_{'0' * 32}"}), 422, "unknown-image")
    with monkeypatch.context() as patch:
        patch.setattr(BlobStore, "put", _full)
        assert_problem(send(api, set_id, ("a.jpg", OTHER)), 503, "blob-store-full")
    assert scalar(sessions, "SELECT count(*) FROM image_set_versions") == 1
    assert seal(api, set_id) == sealed


def _full(*_: object) -> str:
    raise BlobStoreFullError


def test_items_come_in_pages(api: TestClient, set_id: str, picture: bytes) -> None:
    image_id = upload(api, picture)
    version_id = add(api, set_id, *[{"image_id": image_id}] * 7).json()["version_id"]
    seen, token = [], None
    while True:
        query = {"limit": 3} | ({"page_token": token} if token else {})
        page = api.get(f"/v1/image-set-versions/{version_id}/items", params=query).json()
        seen += [item["index"] for item in page["items"]]
        token = page["next_page_token"]
        if token is None:
            break
    assert seen == list(range(7))


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "state=succeeded", "page_token=%00"])
def test_bad_queries_are_refused(query: str, api: TestClient, set_id: str) -> None:
    version_id = api.get(f"{HERE}/{set_id}").json()["last_version"]["id"]
    answer = api.get(f"/v1/image-set-versions/{version_id}/items?{query}")
    assert_problem(answer, 422, "invalid-request")
