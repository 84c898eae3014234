"""Results as files: what is in them, that they are the same each time, and parts of them."""

import io
import json
import uuid
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from numpy.typing import NDArray
from sqlalchemy.orm import Session, sessionmaker

from api.exports import npz
from api.schemas.ids import job_id
from jobs.blobs import BlobStore
from jobs.leases import Appetite
from tests.faults import change
from tests.finished import (
    KEPT,
    LAYERS,
    TORN,
    WIDTH,
    complete_with,
    embedding_payloads,
    finish_with,
    lens_payloads,
    submit_lens,
)
from tests.ledger import TENANT, claim, submit_texts

Sessions = sessionmaker[Session]
LABELS = ["a cat", "ein Löwe", "dog"]
COUNT, FAILED = 150, (3, 149)
GOOD = [index for index in range(COUNT) if index not in FAILED]
FILES = ("ndjson", "parquet", "npz")


def url_of(job: uuid.UUID) -> str:
    return f"/v1/jobs/{job_id(job)}/results"


def lens(sessions: Sessions, labels: list[str] | None = None) -> tuple[str, NDArray[np.float32]]:
    """Where the results of an ended lens are, and its cosines [item, layer, label]."""
    job = submit_lens(sessions, COUNT, labels or LABELS)
    payloads, cosine = lens_payloads(COUNT, labels or LABELS)
    finish_with(sessions, payloads, FAILED)
    return url_of(job), cosine


def embedding(sessions: Sessions, tenant: str = TENANT) -> tuple[str, NDArray[np.float32]]:
    job = submit_texts(sessions, COUNT, tenant=tenant)
    payloads, vectors = embedding_payloads(COUNT)
    finish_with(sessions, payloads, FAILED)
    return url_of(job), vectors


def fetch(api: TestClient, url: str, name: str) -> bytes:
    answer = api.get(url, params={"format": name})
    assert answer.status_code == 200, answer.text
    return answer.content


def arrays(data: bytes) -> dict[str, NDArray[Any]]:
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        return dict(file)


def in_pages(api: TestClient, url: str) -> list[dict[str, Any]]:
    """All items, by the links from page to page."""
    items, following = [], f"{url}?limit=64"
    while following:
        answer = api.get(following)
        items += answer.json()["items"]
        following = answer.links.get("next", {}).get("url", "")
    return items


def test_lines_are_the_objects_of_the_pages(api: TestClient, sessions: Sessions) -> None:
    url, _ = lens(sessions)
    lines = fetch(api, url, "ndjson").splitlines()
    assert [json.loads(line) for line in lines] == in_pages(api, url)
    assert len(lines) == COUNT


def test_a_parquet_file_of_a_lens_has_a_row_an_item(api: TestClient, sessions: Sessions) -> None:
    url, cosine = lens(sessions)
    table = pq.read_table(io.BytesIO(fetch(api, url, "parquet")))
    rows = table.to_pylist()
    assert [row["index"] for row in rows] == list(range(COUNT))
    good = [rows[index] for index in GOOD]
    assert np.array_equal(np.array([row["cosine"] for row in good], np.float32), cosine[GOOD])
    logits = np.array([row["final_logit"] for row in good], np.float32)
    assert np.array_equal(logits, cosine[GOOD, -1] * np.float32(100))
    assert (rows[1]["custom_id"], rows[1]["width"], rows[1]["settle_layer"]) == ("ä 1.jpg", 301, 4)
    assert rows[1]["image_id"] == in_pages(api, url)[1]["image_id"]
    assert (rows[0]["top_margin"], rows[0]["settle_layer"], rows[2]["custom_id"]) == (None, None, None)
    failed = rows[3]
    assert (failed["state"], failed["error_code"], failed["error_message"]) == (
        "failed",
        TORN["code"],
        "torn",
    )
    assert failed["cosine"] is None
    about = json.loads(table.schema.metadata[b"lensqueue"])
    assert (about["schema_version"], about["layers"], about["labels"]) == (1, LAYERS, LABELS)
    assert about["provenance"] == api.get(url.removesuffix("/results")).json()["provenance"]


def test_a_parquet_file_of_embeddings_has_lists_of_fixed_size(api: TestClient, sessions: Sessions) -> None:
    url, vectors = embedding(sessions)
    table = pq.read_table(io.BytesIO(fetch(api, url, "parquet")))
    assert table.schema.field("embedding").type.list_size == WIDTH
    found = table["embedding"].to_pylist()
    assert found[3] is None
    assert np.array_equal(np.array([found[index] for index in GOOD], np.float32), vectors[GOOD])


def test_arrays_of_a_lens_are_labelled_and_leave_out_what_failed(
    api: TestClient, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    # so that also what failed comes in several parts
    monkeypatch.setattr(npz, "SMALL_AT_ONCE", 1)
    url, cosine = lens(sessions)
    found = arrays(fetch(api, url, "npz"))
    assert found["index"].tolist() == GOOD
    assert np.array_equal(found["cosine"], cosine[GOOD])
    assert found["cosine"].dtype == np.float32
    assert (found["layers"].tolist(), found["labels"].tolist()) == (LAYERS, LABELS)
    assert np.array_equal(found["logit"], cosine[GOOD, -1] * np.float32(100))
    assert found["match_probability"].shape == (len(GOOD), len(LABELS))
    assert np.array_equal(found["top"], cosine[GOOD, -1].argmax(axis=1))
    assert (found["settle_layer"][0], np.isnan(found["margin"][0])) == (-1, True)
    assert (found["settle_layer"][1], found["margin"][1]) == (4, 0.25)
    assert found["custom_id"].tolist()[:3] == ["ä 0.jpg", "ä 1.jpg", ""]
    assert found["failed_index"].tolist() == list(FAILED)
    assert found["failed_code"].tolist() == [TORN["code"]] * 2
    assert json.loads(str(found["about"]))["type"] == "logit_lens"


def test_arrays_of_embeddings(api: TestClient, sessions: Sessions) -> None:
    url, vectors = embedding(sessions)
    found = arrays(fetch(api, url, "npz"))
    assert np.array_equal(found["embedding"], vectors[GOOD])
    assert found["index"].tolist() == GOOD


def test_of_many_labels_each_item_says_which_it_kept(api: TestClient, sessions: Sessions) -> None:
    labels = [f"label {number}" for number in range(101)]
    url, cosine = lens(sessions, labels)
    found = arrays(fetch(api, url, "npz"))
    assert found["label_index"].shape == (len(GOOD), KEPT)
    kept = np.take_along_axis(cosine[GOOD], found["label_index"][:, None], axis=2)
    assert np.array_equal(found["cosine"], kept)
    assert found["labels"].tolist() == labels
    table = pq.read_table(io.BytesIO(fetch(api, url, "parquet")))
    names = table["labels"].to_pylist()
    assert names[3] is None
    assert names[0] == [labels[place] for place in found["label_index"][0]]
    assert json.loads(table.schema.metadata[b"lensqueue"])["labels"] is None


def test_what_is_there_can_be_read_while_the_job_runs(api: TestClient, sessions: Sessions) -> None:
    job = submit_lens(sessions, 3, LABELS)
    payloads, cosine = lens_payloads(3, LABELS)
    url = url_of(job)
    assert fetch(api, url, "ndjson") == b""
    assert pq.read_table(io.BytesIO(fetch(api, url, "parquet"))).num_rows == 0
    assert arrays(fetch(api, url, "npz"))["cosine"].shape[0] == 0
    held = claim(sessions, appetite=Appetite(items=1))
    assert held is not None
    complete_with(sessions, held, payloads)
    answer = api.get(url, params={"format": "npz"}, headers={"Range": "bytes=5-"})
    assert (answer.status_code, answer.headers["Accept-Ranges"]) == (200, "none")
    assert "ETag" not in answer.headers
    assert np.array_equal(arrays(answer.content)["cosine"], cosine[:1])
    assert len(fetch(api, url, "ndjson").splitlines()) == 1


def test_nothing_succeeded_and_the_files_say_so(api: TestClient, sessions: Sessions) -> None:
    job = submit_texts(sessions, 2)
    finish_with(sessions, {}, failing=(0, 1))
    found = arrays(fetch(api, url_of(job), "npz"))
    assert (found["embedding"].shape[0], found["failed_index"].tolist()) == (0, [0, 1])
    table = pq.read_table(io.BytesIO(fetch(api, url_of(job), "parquet")))
    assert table["embedding"].to_pylist() == [None, None]


@pytest.mark.parametrize("name", FILES)
def test_a_download_that_broke_off_goes_on_where_it_was(
    api: TestClient, sessions: Sessions, blobs: BlobStore, name: str
) -> None:
    url, _ = lens(sessions)
    whole = api.get(url, params={"format": name})
    etag = whole.headers["ETag"]
    assert (whole.headers["Accept-Ranges"], etag.startswith('"')) == ("bytes", True)
    have, size = len(whole.content) // 3, len(whole.content)
    part = api.get(url, params={"format": name}, headers={"Range": f"bytes={have}-", "If-Range": etag})
    assert part.status_code == 206
    assert whole.content[:have] + part.content == whole.content
    assert part.headers["Content-Range"] == f"bytes {have}-{size - 1}/{size}"
    assert part.headers["ETag"] == etag
    again = api.get(url, params={"format": name})
    assert (again.content, again.headers["Content-Length"]) == (whole.content, str(size))
    unchanged = api.get(url, params={"format": name}, headers={"If-None-Match": etag})
    assert (unchanged.status_code, unchanged.content) == (304, b"")


@pytest.mark.parametrize("name", ["json", *FILES])
def test_head_is_answered_as_get_less_the_body(api: TestClient, sessions: Sessions, name: str) -> None:
    for url in (lens(sessions)[0], url_of(submit_texts(sessions))):
        for _ in ("as it is made", "from the copy"):
            asked = {"format": name}
            whole, head = api.get(url, params=asked), api.head(url, params=asked)
            assert (head.status_code, head.content) == (200, b"")
            assert told(head) == told(whole)
            if name != "json":
                api.get(url, params=asked, headers={"Range": "bytes=0-9"})
        # no part of nothing
        assert api.head(url, params=asked, headers={"Range": "bytes=0-9"}).status_code == 200
    unknown = api.head(url_of(uuid.uuid4()), params={"format": name})
    assert unknown.status_code == 404


def test_pages_of_a_job_that_has_ended_are_sent_once(api: TestClient, sessions: Sessions) -> None:
    url, _ = lens(sessions)
    first = api.get(url, params={"limit": 64})
    second = api.get(first.links["next"]["url"])
    tags = [page.headers["ETag"] for page in (first, second, api.get(url))]
    assert len(set(tags)) == 3
    assert first.headers["Cache-Control"] == "private, no-cache"
    known = api.get(url, params={"limit": 64}, headers={"If-None-Match": tags[0]})
    assert (known.status_code, known.content, known.headers["ETag"]) == (304, b"", tags[0])
    other = api.get(url, params={"limit": 64}, headers={"If-None-Match": tags[1]})
    assert (other.status_code, other.json()) == (200, first.json())
    # the next answer has more
    running = api.get(url_of(submit_texts(sessions)), headers={"If-None-Match": "*"})
    assert (running.status_code, "ETag" in running.headers) == (200, False)
    change(sessions, "UPDATE jobs SET expires_at = now() - interval '1 hour' WHERE ended_at IS NOT NULL")
    gone = api.get(url, params={"limit": 64}, headers={"If-None-Match": tags[0]})
    assert gone.status_code == 410


def told(answer: Any) -> dict[str, str]:
    """The headers that are not of the one request alone."""
    own = {"x-request-id", "ratelimit", "date"}
    return {name: value for name, value in answer.headers.items() if name.lower() not in own}


def test_ranges_at_the_edges(api: TestClient, sessions: Sessions) -> None:
    url, _ = embedding(sessions)
    whole = fetch(api, url, "ndjson")
    size = len(whole)

    def ask(range_: str, **headers: str) -> Any:
        return api.get(url, params={"format": "ndjson"}, headers={"Range": range_, **headers})

    assert ask("bytes=0-0").content == whole[:1]
    assert ask("bytes=-10").content == whole[-10:]
    assert ask(f"bytes=-{size * 2}").content == whole
    assert ask(f"bytes=10-{size * 2}").headers["Content-Range"] == f"bytes 10-{size - 1}/{size}"
    for range_ in (f"bytes={size}-", "bytes=-0"):
        answer = ask(range_)
        assert (answer.status_code, answer.json()["code"]) == (416, "range-not-satisfiable")
        assert answer.headers["Content-Range"] == f"bytes */{size}"
    for ignored in ("bytes=0-1,5-6", "bytes=5-2", "bytes=-", "items=0-1", "bytes=" + "9" * 5_000 + "-"):
        assert (ask(ignored).status_code, ask(ignored).content) == (200, whole)
    for other in ('"another"', "Sat, 28 Nov 2026 00:00:00 GMT", 'W/"weak"'):
        assert ask("bytes=0-0", **{"If-Range": other}).status_code == 200


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_never_shorter_than_what_was_counted(
    api: TestClient, sessions: Sessions, name: str
) -> None:
    url, _ = embedding(sessions)
    change(sessions, "DELETE FROM results WHERE index = 7")
    gone = api.get(url, params={"format": name}, headers={"Range": "bytes=0-9"})
    assert (gone.status_code, gone.json()["code"]) == (410, "results-expired")


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("*/*", "application/json"),
        ("application/*;q=0.5, application/x-ndjson", "application/x-ndjson"),
        ("application/zip;q=0.2, application/vnd.apache.parquet;q=0.7", "application/vnd.apache.parquet"),
        ("application/json;q=0, */*", "application/x-ndjson"),
        ("text/html, application/zip", "application/zip"),
        ("nonsense", "application/json"),
    ],
)
def test_a_client_is_given_what_it_would_rather_have(
    api: TestClient, sessions: Sessions, accept: str, media_type: str
) -> None:
    url = url_of(submit_texts(sessions))
    answer = api.get(url, headers={"Accept": accept})
    assert answer.headers["Content-Type"] == media_type
    assert answer.headers["Vary"] == "Accept"


def test_what_cannot_be_given_is_refused(api: TestClient, sessions: Sessions) -> None:
    url = url_of(submit_texts(sessions))
    unacceptable = api.get(url, headers={"Accept": "text/html, application/json;q=0"})
    assert (unacceptable.status_code, unacceptable.json()["code"]) == (406, "not-acceptable")
    assert api.get(url, params={"format": "json"}, headers={"Accept": "text/html"}).status_code == 200
    unknown = api.get(url, params={"format": "csv"})
    assert (unknown.status_code, unknown.json()["errors"][0]["pointer"]) == (422, "/format")
    for misplaced in ("limit=5", "page_token=AAAAAA"):
        answer = api.get(f"{url}?format=ndjson&{misplaced}")
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid-request")
