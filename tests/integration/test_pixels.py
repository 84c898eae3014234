"""From a job's option to the decoder and back: exact pixels or a draft, and which frame of how many."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from engine.catalog import DEMO_MODEL
from engine.siglip import SiglipEngine
from jobs.blobs import BlobStore
from jobs.images import Content
from jobs.submission import ImageItem, Submission
from models.types import JobType
from pictures.convert import squash
from pictures.decode import decode, read, side_of_draft
from pictures.thumbnail import thumbnail
from tests.encoded import PICTURES, encode
from tests.ledger import MODEL, TENANT, admit_and_submit, claim
from tests.ledger import read as read_job
from tests.runtimes import runtime_of
from tests.scenery import scenery
from worker import time_slice
from worker.decode_pool import DecodePool
from worker.decoding_process import Picture
from worker.heartbeat import Heartbeat
from worker.runtime import open_decoders

SIDE = 48
BICUBIC = 3
IMAGES = {"images": [{"data": "YW55dGhpbmc="}]}
LENS = {
    "labels": ["cyan ring", "red diamond"],
    "template": "{}",
    "outputs": ["pooled"],
    "layers": "all",
    "patch_layers": None,
    "patch_method": "head",
}


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    with DecodePool(SIDE, BICUBIC, processes=1, seconds_per_picture=60, memory_bytes=1 << 30) as made:
        yield made


@pytest.fixture(scope="module")
def demo_engine() -> SiglipEngine:
    return SiglipEngine(DEMO_MODEL, device="cpu")


@pytest.fixture(scope="module")
def large() -> bytes:
    """Large enough for a draft at half its size."""
    return encode(scenery((1300, 1100)), "JPEG", quality=88)


def test_a_decoder_drafts_where_it_is_asked_to_and_says_the_original_s_size(
    pool: DecodePool, large: bytes
) -> None:
    (exact,) = pool.submit([lambda: large]).result()
    (draft,) = pool.submit([lambda: large], draft=True).result()
    (with_thumbnail,) = pool.submit([lambda: large], draft=True, thumbnails=True).result()
    assert isinstance(exact, Picture)
    assert isinstance(draft, Picture)
    assert isinstance(with_thumbnail, Picture)
    assert (draft.width, draft.height) == (exact.width, exact.height) == (1300, 1100)
    expected = read(large, draft_side=side_of_draft(SIDE)).image
    assert expected.size == (650, 550)
    square = np.asarray(squash(expected, SIDE, BICUBIC)).transpose(2, 0, 1)
    np.testing.assert_array_equal(draft.pixels, square)
    np.testing.assert_array_equal(with_thumbnail.pixels, square)
    assert with_thumbnail.thumbnail == thumbnail(expected)
    assert 0 < np.abs(draft.pixels.astype(int) - exact.pixels).max() <= 2
    exact_square = np.asarray(squash(decode(large), SIDE, BICUBIC)).transpose(2, 0, 1)
    np.testing.assert_array_equal(exact.pixels, exact_square)


@pytest.mark.parametrize("type_", [JobType.LOGIT_LENS, JobType.EMBEDDING])
def test_a_result_names_the_frame_that_was_read_and_the_job_how_pixels_were_made(
    type_: JobType,
    sessions: sessionmaker[Session],
    blobs: BlobStore,
    heartbeat: Heartbeat,
    demo_engine: SiglipEngine,
) -> None:
    options: dict[str, Any] = LENS if type_ is JobType.LOGIT_LENS else {"normalize": True}
    data = [PICTURES["GIF of several frames"], PICTURES["JPEG"]]
    items = [ImageItem(Content(blobs.put(TENANT, each), len(each), "image/gif")) for each in data]
    asked = {"exact": options | {"pixels": "exact"}, "draft": options | {"pixels": "draft"}, "": options}
    jobs = {
        mode: admit_and_submit(sessions, Submission(type_, MODEL, items, told))
        for mode, told in asked.items()
    }
    runtime = replace(
        runtime_of(demo_engine, sessions, blobs, heartbeat), provenance=dict(demo_engine.provenance)
    )
    with open_decoders(runtime.settings, demo_engine.provenance["pixel_path"]) as decoders:
        time_slice.run_slice(replace(runtime, decoders=decoders))
    for mode, job_id in jobs.items():
        job = read_job(sessions, job_id)
        assert job.provenance is not None
        assert job.provenance["pixel_path"]["mode"] == (mode or "exact")
        assert job.provenance["pixel_path"]["resample"] == demo_engine.provenance["pixel_path"]["resample"]
        with sessions() as session:
            rows = session.scalars(
                text("SELECT payload FROM results WHERE job_id = :id ORDER BY index"), {"id": job_id}
            ).all()
        assert [row.get("frame") for row in rows] == [{"index": 0, "of": 2}, None]
    assert demo_engine.provenance["pixel_path"]["mode"] == "exact"


@pytest.mark.parametrize("type_", ["logit_lens", "embedding"])
def test_the_option_is_kept_for_the_worker_and_anything_else_refused(
    type_: str, api: TestClient, sessions: sessionmaker[Session]
) -> None:
    body: dict[str, Any] = {"type": type_, "model": MODEL, "input": IMAGES}
    if type_ == "logit_lens":
        body["labels"] = ["a ring"]
    refused = api.post("/v1/jobs", json=body | {"options": {"pixels": "fast"}})
    assert refused.status_code == 422
    assert "/options/pixels" in refused.text
    assert api.post("/v1/jobs", json=body | {"options": {"pixels": "draft"}}).status_code == 202
    held = claim(sessions)
    assert held is not None
    assert held.units[0].options["pixels"] == "draft"
