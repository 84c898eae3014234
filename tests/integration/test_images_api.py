"""Sending pictures once and naming them in jobs: what is kept, what is refused, what is deleted."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from api.app import create_app
from api.settings import ApiSettings
from jobs.blobs import SENTINEL, BlobStore
from jobs.keys import create_key
from jobs.leases import Appetite
from pictures.decode import DEFAULT_LIMITS
from tests.conftest import SAMPLES
from tests.integration.test_bad_requests import assert_problem
from tests.ledger import TENANT, claim, scalar

LENS: dict[str, Any] = {"type": "logit_lens", "labels": ["a cyan ring", "a red heart"]}
OTHER = (SAMPLES / "scene-00001.jpg").read_bytes()
UNKNOWN = "img_" + "0" * 31 + "7"


def send(api: TestClient, *files: tuple[str, bytes]) -> Any:
    return api.post("/v1/images", files=[("images", (name, data, "image/jpeg")) for name, data in files])


def files_of(store: Path) -> list[str]:
    return sorted(path.name for path in store.rglob("*") if path.is_file() and path.name != SENTINEL)


@pytest.fixture
def foreign(sessions: sessionmaker[Session]) -> dict[str, str]:
    """The header of another tenant."""
    with sessions.begin() as session:
        key = create_key(session, name="foreign", tenant="somebody else").key
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize("media_type", ["image/jpeg", "application/octet-stream", "IMAGE/PNG; x=y"])
def test_a_picture_is_sent_as_the_body_itself(api: TestClient, picture: bytes, media_type: str) -> None:
    answer = api.post("/v1/images", content=picture, headers={"Content-Type": media_type})
    assert answer.status_code == 201
    (image,) = answer.json()["items"]
    assert image["id"].startswith("img_")
    assert (image["image_bytes"], image["media_type"]) == (len(picture), "image/jpeg")
    assert (image["filename"], image["created"]) == (None, True)
    looked_at = api.get(f"/v1/images/{image['id']}")
    assert looked_at.status_code == 200
    assert looked_at.json() == {key: image[key] for key in image.keys() - {"filename", "created"}}


def test_many_pictures_are_sent_at_once_and_answered_in_their_order(
    api: TestClient, picture: bytes, blobs: BlobStore
) -> None:
    answer = send(api, ("b.jpg", OTHER), ("a.jpg", picture), ("again.jpg", OTHER))
    assert answer.status_code == 201
    items = answer.json()["items"]
    assert [item["filename"] for item in items] == ["b.jpg", "a.jpg", "again.jpg"]
    assert [item["created"] for item in items] == [True, True, False]
    assert items[0]["id"] == items[2]["id"] != items[1]["id"]
    assert blobs.get(TENANT, items[1]["sha256"]) == picture


def test_sending_the_same_again_keeps_nothing_new(
    api: TestClient, picture: bytes, blobs: BlobStore, sessions: sessionmaker[Session]
) -> None:
    first = send(api, ("a.jpg", picture))
    second = send(api, ("b.jpg", picture))
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["items"][0]["id"] == second.json()["items"][0]["id"]
    assert len(files_of(blobs.folder)) == scalar(sessions, "SELECT count(*) FROM images") == 1
    assert send(api, ("b.jpg", picture), ("c.jpg", OTHER)).status_code == 201


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (b"", "image-empty"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not-an-image"),
        (b"PK\x03\x04 an archive", "not-an-image"),
        (OTHER[: len(OTHER) // 2], "image-truncated"),
    ],
)
def test_with_one_bad_picture_nothing_of_the_request_is_kept(
    api: TestClient,
    picture: bytes,
    blobs: BlobStore,
    sessions: sessionmaker[Session],
    bad: bytes,
    code: str,
) -> None:
    answer = send(api, ("good.jpg", picture), ("bad.jpg", bad), ("good.jpg", OTHER), ("empty.jpg", b""))
    problem = assert_problem(answer, 422, code)
    assert [(error["pointer"], error["code"]) for error in problem["errors"]] == [
        ("/images/1", code),
        ("/images/3", "image-empty"),
    ]
    raw = api.post("/v1/images", content=bad, headers={"Content-Type": "image/png"})
    assert assert_problem(raw, 422, code)["errors"][0]["pointer"] == ""
    assert files_of(blobs.folder) == []
    assert scalar(sessions, "SELECT count(*) FROM images") == 0


def test_a_picture_that_is_too_large_is_refused_before_it_is_all_read(
    settings: ApiSettings, key: str, picture: bytes
) -> None:
    small = settings.model_copy(update={"max_image_bytes": len(picture)})
    with TestClient(create_app(small), headers={"Authorization": f"Bearer {key}"}) as api:
        problem = assert_problem(
            send(api, ("a.jpg", picture), ("b.jpg", picture + b"\xff")), 422, "image-too-large"
        )
        assert [error["pointer"] for error in problem["errors"]] == ["/images/1"]
        read = 0

        def endless() -> Any:
            nonlocal read
            while read < 100 * len(picture):
                read += 1_000
                yield b"x" * 1_000

        answer = api.post("/v1/images", content=endless(), headers={"Content-Type": "image/jpeg"})
        assert_problem(answer, 422, "image-too-large")


def test_of_a_job_s_picture_that_is_too_large_no_more_is_kept_than_says_so(
    settings: ApiSettings, key: str, sessions: sessionmaker[Session], picture: bytes
) -> None:
    limit = 1_000
    small = settings.model_copy(update={"max_image_bytes": limit})
    assert len(picture) > limit + 3
    job = {"type": "embedding"}
    inline = job | {"input": {"images": [{"data": base64.b64encode(picture).decode()}]}}
    with TestClient(create_app(small), headers={"Authorization": f"Bearer {key}"}) as api:
        for _ in range(2):
            answers = [
                api.post(
                    "/v1/jobs",
                    data={"job": json.dumps(job)},
                    files=[("images", ("a.jpg", picture, "image/jpeg"))],
                    headers={"Idempotency-Key": "large"},
                ),
                api.post("/v1/jobs", json=inline),
            ]
            # bad bytes inside a job never fail the submit
            assert [answer.status_code for answer in answers] == [202, 202]
    assert scalar(sessions, "SELECT count(*) FROM jobs") == 3
    files = (path for path in settings.blobs.rglob("*") if path.is_file() and path.name != SENTINEL)
    kept = [path.stat().st_size for path in files]
    assert all(limit < size <= limit + 3 for size in kept), kept
    assert kept


def test_the_limit_of_a_picture_is_that_of_the_workers(settings: ApiSettings) -> None:
    assert settings.max_image_bytes == DEFAULT_LIMITS.image_bytes


def test_other_bodies_than_pictures_are_refused(api: TestClient, picture: bytes) -> None:
    for content_type in ("application/json", "text/plain", "video/mp4"):
        answer = api.post("/v1/images", content=picture, headers={"Content-Type": content_type})
        assert_problem(answer, 415, "unsupported-media-type")
    assert_problem(api.post("/v1/images", files={"other": picture}), 422, "invalid-request")
    assert_problem(api.post("/v1/images", data={"images": "text"}, files={}), 415, "unsupported-media-type")
    boundary = {"Content-Type": "multipart/form-data; boundary=x"}
    assert_problem(api.post("/v1/images", content=b"--x--\r\n", headers=boundary), 422, "no-input")
    text = b'--x\r\nContent-Disposition: form-data; name="images"\r\n\r\ntext\r\n--x--\r\n'
    assert_problem(api.post("/v1/images", content=text, headers=boundary), 422, "invalid-request")
    assert_problem(api.post("/v1/images", content=b"\xff--y", headers=boundary), 400, "malformed-body")


def test_more_pictures_than_the_limit_are_refused(settings: ApiSettings, key: str, picture: bytes) -> None:
    small = settings.model_copy(update={"max_upload_images": 2})
    with TestClient(create_app(small), headers={"Authorization": f"Bearer {key}"}) as api:
        assert send(api, *[("a.jpg", picture)] * 2).status_code == 201
        for count in (3, 4):
            answer = send(api, *[("a.jpg", picture)] * count)
            problem = assert_problem(answer, 422, "too-many-inputs")
            assert problem["errors"][0]["pointer"] == "/images"


def test_the_key_is_asked_for_before_an_upload_is_read(settings: ApiSettings, picture: bytes) -> None:
    small = settings.model_copy(update={"max_body_bytes": 10})
    with TestClient(create_app(small)) as api:
        assert_problem(send(api, ("a.jpg", picture)), 401, "unauthenticated")


def test_an_image_is_the_tenants_own(
    api: TestClient, picture: bytes, foreign: dict[str, str], sessions: sessionmaker[Session]
) -> None:
    image_id = send(api, ("a.jpg", picture)).json()["items"][0]["id"]
    unknown = api.get(f"/v1/images/{UNKNOWN}").json()
    for method in ("GET", "DELETE"):
        answer = api.request(method, f"/v1/images/{image_id}", headers=foreign)
        assert_problem(answer, 404, "not-found")
        assert answer.json() | {"request_id": ""} == unknown | {"request_id": ""}
    theirs = api.post("/v1/images", files={"images": picture}, headers=foreign)
    assert theirs.status_code == 201
    assert theirs.json()["items"][0]["id"] != image_id
    assert scalar(sessions, "SELECT count(*) FROM images") == 2


@pytest.mark.parametrize("wire_id", ["img_1", UNKNOWN, "job_" + "0" * 32, "%00", "x" * 4_000])
def test_an_unknown_image_is_not_found(api: TestClient, wire_id: str) -> None:
    for method in ("GET", "DELETE"):
        assert_problem(api.request(method, f"/v1/images/{wire_id}"), 404, "not-found")


def test_a_deleted_image_is_unknown_at_once_and_comes_back_with_its_bytes(
    api: TestClient, picture: bytes
) -> None:
    image_id = send(api, ("a.jpg", picture)).json()["items"][0]["id"]
    deleted = api.delete(f"/v1/images/{image_id}")
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert_problem(api.get(f"/v1/images/{image_id}"), 404, "not-found")
    assert_problem(api.delete(f"/v1/images/{image_id}"), 404, "not-found")
    assert_problem(submit_named(api, {"image_id": image_id}), 422, "unknown-image")
    again = send(api, ("a.jpg", picture))
    assert (again.status_code, again.json()["items"][0]["id"]) == (201, image_id)
    assert api.get(f"/v1/images/{image_id}").status_code == 200


def test_an_image_that_a_job_names_cannot_be_deleted(
    api: TestClient, picture: bytes, sessions: sessionmaker[Session]
) -> None:
    image_id = send(api, ("a.jpg", picture)).json()["items"][0]["id"]
    encoded = base64.b64encode(picture).decode()
    assert submit_named(api, {"data": encoded}).status_code == 202
    assert_problem(api.delete(f"/v1/images/{image_id}"), 409, "image-in-use")
    assert api.get(f"/v1/images/{image_id}").status_code == 200
    with sessions.begin() as session:
        session.connection().exec_driver_sql("DELETE FROM jobs")
    assert api.delete(f"/v1/images/{image_id}").status_code == 204


def submit_named(api: TestClient, *images: dict[str, Any]) -> Any:
    return api.post("/v1/jobs", json=LENS | {"input": {"images": list(images)}})


def test_a_job_names_images_and_brings_others_in_one_order(
    api: TestClient, picture: bytes, sessions: sessionmaker[Session]
) -> None:
    mine, other = (item["id"] for item in send(api, ("a", picture), ("b", OTHER)).json()["items"])
    answer = submit_named(
        api,
        {"image_id": other, "custom_id": "first"},
        {"data": base64.b64encode(picture).decode(), "custom_id": "second"},
        {"image_id": mine, "custom_id": "third"},
        {"image_id": other},
    )
    assert answer.status_code == 202
    assert answer.json()["progress"]["total"] == 4
    held = claim(sessions, appetite=Appetite(items=4))
    assert held is not None
    items = [item for unit in held.units for item in unit.items]
    assert [item["custom_id"] for item in items] == ["first", "second", "third", None]
    ids = ["img_" + item["image_id"].replace("-", "") for item in items]
    assert ids == [other, mine, mine, other]
    assert len({item["sha256"] for item in items}) == 2
    named = "SELECT count(DISTINCT image_id) FROM job_inputs, unnest(image_ids) AS image_id"
    assert scalar(sessions, named) == 2


def test_a_multipart_job_may_name_images_when_it_brings_no_files(
    api: TestClient, picture: bytes, sessions: sessionmaker[Session]
) -> None:
    image_id = send(api, ("a", picture)).json()["items"][0]["id"]
    job = json.dumps(LENS | {"input": {"images": [{"image_id": image_id}]}})
    form = {"job": (None, job)}
    assert api.post("/v1/jobs", files=form).status_code == 202
    both = api.post("/v1/jobs", files=form | {"images": ("b.jpg", OTHER, "image/jpeg")})
    assert_problem(both, 422, "invalid-request")
    assert scalar(sessions, "SELECT count(*) FROM images") == 1


def test_every_unknown_image_of_a_job_is_pointed_at_and_nothing_is_stored(
    api: TestClient,
    picture: bytes,
    foreign: dict[str, str],
    blobs: BlobStore,
    sessions: sessionmaker[Session],
) -> None:
    theirs = api.post("/v1/images", files={"images": picture}, headers=foreign).json()["items"][0]["id"]
    mine = send(api, ("a.jpg", picture)).json()["items"][0]["id"]
    before = files_of(blobs.folder)
    data = {"data": base64.b64encode(OTHER).decode()}
    named = [data, {"image_id": theirs}, {"image_id": mine}, {"image_id": UNKNOWN}, {"image_id": "nonsense"}]
    problem = assert_problem(submit_named(api, *named), 422, "unknown-image")
    pointers = [error["pointer"] for error in problem["errors"]]
    assert pointers == [f"/input/images/{index}/image_id" for index in (1, 3, 4)]
    many = assert_problem(submit_named(api, *[{"image_id": UNKNOWN}] * 300), 422, "unknown-image")
    assert len(many["errors"]) == 100
    assert files_of(blobs.folder) == before
    assert scalar(sessions, "SELECT count(*) FROM jobs") == 0


@pytest.mark.parametrize(
    "image",
    [
        {},
        {"custom_id": "a"},
        {"data": "AAAA", "image_id": UNKNOWN},
        {"image_id": 7},
        {"image_id": "x" * 101},
        {"data": None},
        {"image_id": None, "data": None},
    ],
)
def test_a_picture_has_exactly_one_source(api: TestClient, image: dict[str, Any]) -> None:
    problem = assert_problem(submit_named(api, image), 422, "invalid-request")
    assert problem["errors"][0]["pointer"].startswith("/input/images/0")


def test_the_openapi_document_describes_uploads(api: TestClient) -> None:
    document = api.get("/openapi.json").json()
    named = document["components"]["schemas"]["ImageInput"]["properties"]["image_id"]
    assert (named["type"], "default" in named) == ("string", False)
    paths = document["paths"]
    content = paths["/v1/images"]["post"]["requestBody"]["content"]
    assert set(content) == {"image/*", "application/octet-stream", "multipart/form-data"}
    assert {"200", "201"} <= set(paths["/v1/images"]["post"]["responses"])
    assert {"get", "delete"} <= set(paths["/v1/images/{image_id}"])
    parameters = paths["/v1/jobs"]["post"]["parameters"]
    assert "Idempotency-Key" in [parameter["name"] for parameter in parameters]
