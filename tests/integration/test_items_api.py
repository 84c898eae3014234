"""One item's result, and its maps as numbers and pictures, from what a worker stored."""

import io
import uuid
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from numpy.typing import NDArray
from PIL import Image
from sqlalchemy.orm import Session, sessionmaker

from api.schemas.ids import job_id
from jobs.blobs import BlobStore
from jobs.keys import create_key
from tests.mapped import GRID, LABELS, LAYERS, SIZE, finish_mapped


@pytest.fixture
def scores() -> NDArray[np.float32]:
    """Random scores [layer, label, row, col] in which the cat lies at the top left at the end."""
    drawn = np.random.default_rng(5).uniform(-0.2, 0.2, (2, 2, *GRID)).astype(np.float32)
    drawn[1, 0, 0, 0] = 0.5
    return drawn


@pytest.fixture
def items_url(sessions: sessionmaker[Session], blobs: BlobStore, scores: NDArray[np.float32]) -> str:
    """A finished job of three: a lens with maps, a lens without, and a failure."""
    return f"/v1/jobs/{job_id(finish_mapped(sessions, blobs, scores))}/items"


def open_png(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=["PNG"])


def test_an_item_is_what_the_page_of_results_says_of_it(api: TestClient, items_url: str) -> None:
    page = api.get(items_url.replace("/items", "/results")).json()["items"]
    assert [api.get(f"{items_url}/{index}").json() for index in range(3)] == page
    assert "stored" not in page[0]["patch"]
    assert page[0]["patch"]["labels"] == LABELS


def test_scores_come_back_bit_for_bit(api: TestClient, items_url: str, scores: NDArray[np.float32]) -> None:
    answer = api.get(f"{items_url}/0/scores", params={"format": "npy"})
    assert np.array_equal(np.load(io.BytesIO(answer.content)), scores)
    body = api.get(f"{items_url}/0/scores").json()
    assert (body["layers"], body["labels"], body["grid"]) == (LAYERS, LABELS, list(GRID))
    assert np.array_equal(np.array(body["scores"], dtype=np.float32), scores)


def test_scores_can_be_narrowed_to_a_layer_and_a_label(
    api: TestClient, items_url: str, scores: NDArray[np.float32]
) -> None:
    body = api.get(f"{items_url}/0/scores", params={"layer": 2, "label": "dog"}).json()
    assert (body["layers"], body["labels"]) == ([2], ["dog"])
    assert np.array_equal(np.array(body["scores"], dtype=np.float32), scores[:1, 1:])


def test_a_heatmap_is_transparent_where_no_patch_covers_the_picture(api: TestClient, items_url: str) -> None:
    drawn = open_png(api.get(f"{items_url}/0/heatmap.png", params={"side": 768}).content)
    assert drawn.size == (768, 512)
    alpha = np.array(drawn.convert("RGBA"))[:, :, 3]
    # 378 of 384 pixels: 756 of 768 across, 504 of 512 down
    assert (alpha[:504, :756] == 255).all()
    assert not alpha[504:].any()
    assert not alpha[:, 756:].any()


def test_an_overlay_shows_the_top_label_of_the_last_layer_unless_told(
    api: TestClient, items_url: str
) -> None:
    by_default = api.get(f"{items_url}/0/overlay.png").content
    assert by_default == api.get(f"{items_url}/0/overlay.png", params={"layer": 4, "label": "a cat"}).content
    assert by_default != api.get(f"{items_url}/0/overlay.png", params={"label": "dog"}).content
    bare = open_png(api.get(f"{items_url}/0/overlay.png", params={"legend": False}).content)
    assert bare.size == (512, 341)
    assert open_png(by_default).height > bare.height


def test_a_contrast_of_a_label_with_itself_is_all_one_colour(api: TestClient, items_url: str) -> None:
    query: dict[str, str | int] = {"label": "dog", "contrast": "dog", "side": 64}
    drawn = open_png(api.get(f"{items_url}/0/heatmap.png", params=query).content).convert("RGBA")
    covered = np.array(drawn)[:41, :62].reshape(-1, 4)
    assert len(np.unique(covered, axis=0)) == 1


def test_maps_are_answered_by_304_once_they_are_known(api: TestClient, items_url: str) -> None:
    first = api.get(f"{items_url}/0/overlay.png")
    again = api.get(f"{items_url}/0/overlay.png", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = api.get(
        f"{items_url}/0/overlay.png",
        params={"layer": 2},
        headers={"If-None-Match": first.headers["ETag"]},
    )
    assert other.status_code == 200


def test_the_thumbnail_is_the_stored_one(api: TestClient, items_url: str) -> None:
    answer = api.get(f"{items_url}/0/thumbnail.jpg")
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert Image.open(io.BytesIO(answer.content)).size == SIZE


@pytest.mark.parametrize(
    ("path", "query", "status", "code"),
    [
        ("0/heatmap.png", {"layer": 3}, 422, "invalid-request"),
        ("0/overlay.png", {"label": "a horse"}, 422, "invalid-request"),
        ("0/overlay.png", {"contrast": "a horse"}, 422, "invalid-request"),
        ("0/overlay.png", {"contrast": "dog", "low": 0}, 422, "invalid-request"),
        ("0/overlay.png", {"low": 1, "high": 0}, 422, "invalid-request"),
        ("0/overlay.png", {"low": 0, "high": 0}, 422, "invalid-request"),
        ("0/overlay.png", {"low": "nan"}, 422, "invalid-request"),
        ("0/overlay.png", {"opacity": 2}, 422, "invalid-request"),
        ("0/heatmap.png", {"side": 100_000}, 422, "invalid-request"),
        ("0/scores", {"format": "pickle"}, 422, "invalid-request"),
        ("1/overlay.png", {}, 404, "no-maps"),
        ("2/scores", {}, 404, "no-maps"),
        ("3", {}, 404, "not-found"),
        ("3/heatmap.png", {}, 404, "not-found"),
        ("0/overlay.png", {"high": 1e308}, 200, None),
        ("-1", {}, 422, "invalid-request"),
        ("first", {}, 422, "invalid-request"),
    ],
)
def test_what_cannot_be_shown_is_refused_with_its_reason(
    api: TestClient, items_url: str, path: str, query: dict[str, Any], status: int, code: str | None
) -> None:
    answer = api.get(f"{items_url}/{path}", params=query)
    assert answer.status_code == status
    assert code is None or answer.json()["code"] == code


def test_an_item_that_was_not_run_yet_says_so(api: TestClient) -> None:
    job = api.post("/v1/jobs", json={"type": "embedding", "input": {"texts": ["a ring"]}}).json()
    answer = api.get(f"/v1/jobs/{job['id']}/items/0")
    assert (answer.status_code, answer.json()["code"]) == (404, "no-result-yet")
    api.post(f"/v1/jobs/{job['id']}/cancel")
    answer = api.get(f"/v1/jobs/{job['id']}/items/0")
    assert (answer.status_code, answer.json()["code"]) == (404, "item-dropped")


def test_another_tenants_maps_are_answered_as_unknown(
    api: TestClient, items_url: str, sessions: sessionmaker[Session]
) -> None:
    with sessions.begin() as session:
        stranger = create_key(session, name="stranger", tenant="another").key
    unknown = f"/v1/jobs/job_{uuid.uuid4().hex}/items"
    for path in ("0", "0/scores", "0/heatmap.png", "0/overlay.png", "0/thumbnail.jpg"):
        answers = [
            api.get(f"{url}/{path}", headers={"Authorization": f"Bearer {stranger}"}).json()
            for url in (items_url, unknown)
        ]
        assert answers[0]["code"] == "not-found"
        assert without_id(answers[0]) == without_id(answers[1])


def without_id(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "request_id"}


def test_maps_whose_file_was_removed_are_gone(api: TestClient, items_url: str, blobs: BlobStore) -> None:
    for path in blobs.folder.rglob("objects/*/*/*"):
        path.unlink()
    answer = api.get(f"{items_url}/0/scores")
    assert (answer.status_code, answer.json()["code"]) == (410, "blob-missing")


def test_parts_of_an_array_are_parts_of_its_file(api: TestClient, items_url: str) -> None:
    for url in (f"{items_url}/0/scores?format=npy", f"{items_url}/0/outputs/patch"):
        whole = api.get(url)
        size = len(whole.content)
        assert (whole.headers["Accept-Ranges"], whole.headers["Content-Length"]) == ("bytes", str(size))
        part = api.get(url, headers={"Range": "bytes=100-199", "If-Range": whole.headers["ETag"]})
        assert (part.status_code, part.content) == (206, whole.content[100:200])
        assert part.headers["Content-Range"] == f"bytes 100-199/{size}"
        assert api.get(url, headers={"Range": "bytes=-1"}).content == whole.content[-1:]
        behind = api.get(url, headers={"Range": f"bytes={size}-"})
        assert (behind.status_code, behind.json()["code"]) == (416, "range-not-satisfiable")
        changed = api.get(url, headers={"Range": "bytes=100-", "If-Range": '"another"'})
        assert (changed.status_code, changed.content) == (200, whole.content)
