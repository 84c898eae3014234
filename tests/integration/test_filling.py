"""Results whose numbers lie in tables: whoever fetches them is told what their rows would have told."""

import io
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from api.schemas.ids import parse_job_id, version_id
from engine.catalog import DEMO_MODEL
from engine.siglip import SiglipEngine
from jobs.blobs import BlobStore
from jobs.objects import ObjectName
from jobs.tables import path_of, tables_of
from tests.integration.test_bad_requests import assert_problem
from tests.integration.test_jobs_over_sets import FILES, sealed, work
from tests.ledger import TENANT, scalar
from tests.runtimes import runtime_of
from worker.heartbeat import Heartbeat
from worker.runtime import Runtime

Sessions = sessionmaker[Session]

FORMS: list[Any] = [
    "a pink arrow",
    {"name": "ring", "prompts": ["a cyan ring", "a red ring"]},
    {"name": "rather a ring", "positive": "a ring", "negative": "a square"},
]
ASKED = {"softmax": True, "uncalibrated": True, "layers": [0, 2, 3]}
JOBS: dict[str, dict[str, Any]] = {
    "forms": {"type": "logit_lens", "labels": FORMS, "options": ASKED},
    "many-labels": {"type": "logit_lens", "labels": [f"label {number}" for number in range(101)]},
    "maps": {"type": "logit_lens", "labels": FORMS[:1], "options": {"outputs": ["pooled", "patch"]}},
    "embeddings": {"type": "embedding"},
}


@pytest.fixture(scope="module")
def demo_engine() -> SiglipEngine:
    return SiglipEngine(DEMO_MODEL, device="cpu")


@pytest.fixture
def runtime(demo_engine: SiglipEngine, sessions: Sessions, blobs: BlobStore, heartbeat: Heartbeat) -> Runtime:
    runtime = runtime_of(demo_engine, sessions, blobs, heartbeat)
    return replace(runtime, provenance=dict(demo_engine.provenance))


def finished(api: TestClient, runtime: Runtime, body: dict[str, Any]) -> str:
    """The id of a job of one unit that has ended."""
    answer = api.post("/v1/jobs", json={**body, "priority": "bulk"})
    assert answer.status_code == 202, answer.text
    work(runtime)
    job = api.get(answer.json()["links"]["self"]).json()
    assert job["state"] == "succeeded", job
    return str(job["id"])


def fetch(api: TestClient, job: str, format_: str) -> bytes:
    answer = api.get(f"/v1/jobs/{job}/results", params={"format": format_})
    assert answer.status_code == 200, answer.text
    return answer.content


def said(api: TestClient, job: str, format_: str) -> bytes:
    """Its results as text, with the job's own id taken out."""
    return fetch(api, job, format_).replace(job.encode(), b"job_")


def zeroed(whole: bytes, start: int, size: int) -> bytes:
    return whole[:start] + bytes(size) + whole[start + size :]


@pytest.mark.parametrize("kind", JOBS)
def test_a_job_over_a_set_says_in_every_format_what_one_over_its_pictures_says(
    api: TestClient, runtime: Runtime, sessions: Sessions, blobs: BlobStore, kind: str
) -> None:
    version = version_id(sealed(sessions, blobs, FILES))
    of_set = finished(api, runtime, {**JOBS[kind], "input": {"image_set_version": version}})
    shown = orjson.loads(said(api, of_set, "json"))["items"]
    images = [{"image_id": item["image_id"], "custom_id": item["custom_id"]} for item in shown]
    alone = finished(api, runtime, {**JOBS[kind], "input": {"images": images}})
    of_rows = "SELECT count(*) FROM results WHERE job_id = :job AND payload ? 'table'"
    assert scalar(sessions, of_rows, job=parse_job_id(of_set)) == len(FILES)
    assert scalar(sessions, of_rows, job=parse_job_id(alone)) == 0

    for format_ in ("json", "ndjson"):
        assert said(api, of_set, format_) == said(api, alone, format_)
    item = api.get(f"/v1/jobs/{of_set}/items/1").content.replace(of_set.encode(), b"job_")
    assert orjson.loads(item) == shown[1]
    tables = [pq.read_table(io.BytesIO(fetch(api, job, "parquet"))) for job in (of_set, alone)]
    assert tables[0].equals(tables[1])
    archives = [np.load(io.BytesIO(fetch(api, job, "npz"))) for job in (of_set, alone)]
    assert archives[0].files == archives[1].files
    for name in set(archives[0].files) - {"about"}:
        np.testing.assert_array_equal(archives[0][name], archives[1][name], err_msg=name)
    if kind == "maps":
        for file in ("overlay.png", "scores"):
            drawn = [api.get(f"/v1/jobs/{job}/items/0/{file}") for job in (of_set, alone)]
            assert drawn[0].status_code == 200, drawn[0].text
            assert drawn[0].content == drawn[1].content


def test_results_whose_table_was_removed_or_is_damaged_are_gone(
    api: TestClient, runtime: Runtime, sessions: Sessions, blobs: BlobStore
) -> None:
    version = version_id(sealed(sessions, blobs, FILES[:1]))
    job = finished(api, runtime, {**JOBS["forms"], "input": {"image_set_version": version}})
    with sessions() as session:
        (token,) = session.scalars(tables_of(parse_job_id(job))).all()
    table = path_of(blobs, ObjectName(TENANT, parse_job_id(job), token))
    whole, here = table.read_bytes(), f"/v1/jobs/{job}"
    # of the end of the file, which tells what is in it, where it begins, and what we say there ourselves
    footer = len(whole) - 10 - int.from_bytes(whole[-10:-6], "little")
    damaged = [zeroed(whole, footer - 100, 200), zeroed(whole, whole.rindex(b'"unfitted"'), 8)]
    for left in (whole[: len(whole) // 2], b"", *damaged, None):
        table.unlink()
        if left is not None:
            table.write_bytes(left)
        for url in (f"{here}/results", f"{here}/results?format=ndjson", f"{here}/items/0"):
            assert_problem(api.get(url), 410, "numbers-missing")
