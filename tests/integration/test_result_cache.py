"""The second job over the same pictures computes those that no job has computed before, and no others."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event
from sqlalchemy.orm import Session, sessionmaker

from api.app import create_app
from api.schemas.ids import parse_job_id, version_id
from api.settings import ApiSettings
from engine.catalog import DEMO_MODEL
from engine.siglip import SiglipEngine
from jobs.blobs import BlobStore
from jobs.keys import create_key
from jobs.objects import ObjectName
from jobs.retention import expire_results
from jobs.tables import put_table, read_table, tables_of, told_of
from tests.conftest import SAMPLES
from tests.faults import change
from tests.integration.test_jobs_over_sets import LABELS, results, sealed, work
from tests.ledger import TENANT, assert_settled, scalar
from tests.runtimes import runtime_of
from worker import label_maps
from worker.heartbeat import Heartbeat
from worker.runtime import Runtime

Sessions = sessionmaker[Session]

FILES = sorted(SAMPLES.glob("*.jpg"))[:5]


@pytest.fixture(scope="module")
def demo_engine() -> SiglipEngine:
    return SiglipEngine(DEMO_MODEL, device="cpu")


@pytest.fixture
def runtime(demo_engine: SiglipEngine, sessions: Sessions, blobs: BlobStore, heartbeat: Heartbeat) -> Runtime:
    runtime = runtime_of(demo_engine, sessions, blobs, heartbeat)
    return replace(runtime, provenance=dict(demo_engine.provenance))


class Bench:
    """Runs jobs over versions, and counts the pictures that went through the model."""

    def __init__(self, api: TestClient, runtime: Runtime) -> None:
        self.api = api
        self.runtime = runtime
        self.computed = 0

    def run(self, version: uuid.UUID, api: TestClient | None = None, **body: Any) -> tuple[Any, int]:
        """A job that has ended, and how many pictures it computed."""
        asked = {"type": "logit_lens", "labels": LABELS, "priority": "bulk", **body}
        asked["input"] = {"image_set_version": version_id(version)}
        if asked["type"] == "embedding":
            del asked["labels"]
        before, door = self.computed, api or self.api
        answer = door.post("/v1/jobs", json=asked)
        assert answer.status_code == 202, answer.text
        work(self.runtime)
        job = door.get(answer.json()["links"]["self"]).json()
        assert job["state"] == "succeeded", job
        return job, self.computed - before


@pytest.fixture
def bench(api: TestClient, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench(api, runtime)
    for name in ("lens", "embed_images"):
        monkeypatch.setattr(SiglipEngine, name, counting(made, getattr(SiglipEngine, name)))
    return made


def counting(bench: Bench, method: Any) -> Any:
    def counted(self: SiglipEngine, pictures: Any, *given: Any, **named: Any) -> Any:
        # the canary's are no tensors
        bench.computed += sum(hasattr(picture, "shape") for picture in pictures)
        return method(self, pictures, *given, **named)

    return counted


@contextmanager
def door_of(settings: ApiSettings, sessions: Sessions, tenant: str) -> Iterator[TestClient]:
    with sessions.begin() as session:
        key = create_key(session, name="others", tenant=tenant).key
    with TestClient(create_app(settings), headers={"Authorization": f"Bearer {key}"}) as client:
        yield client


def numbers(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What items say by file, whatever job they are of."""
    by_file = [{**item, "custom_id": item["custom_id"].partition("-")[2]} for item in items]
    left_out = {"index", "cached"}
    return [{name: value for name, value in item.items() if name not in left_out} for item in by_file]


def table_of(sessions: Sessions, blobs: BlobStore, job: Any) -> tuple[ObjectName, pa.Table]:
    """The one table of a job."""
    job_id = parse_job_id(job["id"])
    with sessions() as session:
        (token,) = session.scalars(tables_of(job_id)).all()
    name = ObjectName(TENANT, job_id, token)
    return name, read_table(blobs, name)


def expire(sessions: Sessions, job: Any) -> None:
    past = "UPDATE jobs SET expires_at = now() - interval '1 s' WHERE id = :id"
    change(sessions, past, id=parse_job_id(job["id"]))


@pytest.mark.parametrize("type_", ["logit_lens", "embedding"])
def test_of_a_larger_version_only_new_pictures_are_computed(
    bench: Bench, sessions: Sessions, blobs: BlobStore, type_: str
) -> None:
    job, computed = bench.run(sealed(sessions, blobs, FILES[:4]), type=type_)
    assert computed == 4
    first = results(bench.api, job)
    larger = sealed(sessions, blobs, [FILES[4], *FILES[:4], FILES[0]])
    again, computed = bench.run(larger, type=type_)
    assert computed == 1
    items = results(bench.api, again)
    assert [item.get("cached", False) for item in items] == [False, *[True] * 5]
    assert numbers(items[1:]) == numbers([*first, first[0]])
    # from a copy, in which each has its place
    _, table = table_of(sessions, blobs, again)
    assert table["index"].to_pylist() == [0, 1, 2, 3, 4, 5]
    expire(sessions, job)
    with sessions.begin() as session:
        while expire_results(session, blobs):
            pass
    assert results(bench.api, again) == items
    # those that the later job has are found there
    assert bench.run(larger, type=type_)[1] == 0
    assert_settled(sessions)


def test_other_numbers_and_other_tenants_are_computed_anew(
    bench: Bench, settings: ApiSettings, sessions: Sessions, blobs: BlobStore
) -> None:
    version = sealed(sessions, blobs, FILES[:2])
    assert bench.run(version)[1] == 2
    assert bench.run(version)[1] == 0
    for other in (
        {"labels": LABELS[:2]},
        {"labels": LABELS[::-1]},
        {"options": {"template": "a {}"}},
        {"options": {"layers": [0, 2]}},
        {"options": {"softmax": True}},
        {"options": {"pixels": "draft"}},
        {"options": {"use_cache": False}},
        {"type": "embedding"},
    ):
        assert bench.run(version, **other)[1] == 2, other
    known = bench.runtime.provenance
    for other in ({"dtype": "bfloat16"}, {"device_name": "another card"}):
        bench.runtime = replace(bench.runtime, provenance={**known, **other})
        assert bench.run(version)[1] == 2, other
    with door_of(settings, sessions, "others") as door:
        assert bench.run(sealed(sessions, blobs, FILES[:2], "others"), door)[1] == 2


def test_what_expired_or_lost_its_table_is_computed_anew(
    bench: Bench, sessions: Sessions, blobs: BlobStore
) -> None:
    version = sealed(sessions, blobs, FILES[:2])
    job, _ = bench.run(version)
    expire(sessions, job)
    job, computed = bench.run(version)
    assert computed == 2
    for table in blobs.folder.rglob("*.arrow"):
        table.unlink()
    job, computed = bench.run(version)
    assert computed == 2
    assert bench.api.delete(f"/v1/jobs/{job['id']}").status_code in {200, 202, 204}
    assert bench.run(version)[1] == 2


def test_what_cannot_be_looked_up_is_computed_anew(
    bench: Bench, sessions: Sessions, blobs: BlobStore
) -> None:
    version = sealed(sessions, blobs, FILES[:2])
    bench.run(version)
    change(sessions, """UPDATE results SET payload = payload || '{"table": "no token"}'""")
    assert bench.run(version)[1] == 2
    assert_settled(sessions)


def test_a_claim_is_held_while_its_pictures_are_looked_up(
    bench: Bench, sessions: Sessions, blobs: BlobStore
) -> None:
    held: list[int] = []

    def look(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "FROM cached_results" in statement:
            held.append(len(bench.runtime.heartbeat._grips))

    event.listen(sessions.kw["bind"], "before_cursor_execute", look)
    bench.run(sealed(sessions, blobs, FILES[:2]))
    event.remove(sessions.kw["bind"], "before_cursor_execute", look)
    assert held == [1]


def test_whichever_job_goes_first_its_pictures_are_found_in_the_other(
    bench: Bench, sessions: Sessions, blobs: BlobStore
) -> None:
    version = sealed(sessions, blobs, FILES[:2])
    for gone in (0, 1):
        both = [bench.run(version)[0] for _ in range(2)]
        assert bench.api.delete(f"/v1/jobs/{both[gone]['id']}").is_success
        third, computed = bench.run(version)
        assert computed == 0
        for job in (both[1 - gone], third):
            bench.api.delete(f"/v1/jobs/{job['id']}")


def test_rows_of_the_cache_go_with_the_results_that_they_name(
    bench: Bench, sessions: Sessions, blobs: BlobStore
) -> None:
    bench.run(sealed(sessions, blobs, FILES[:2]))
    assert scalar(sessions, "SELECT count(*) FROM cached_results") == 2
    change(sessions, "UPDATE jobs SET expires_at = now() - interval '1 s'")
    with sessions.begin() as session:
        while expire_results(session, blobs):
            pass
    assert scalar(sessions, "SELECT count(*) FROM cached_results") == 0


def test_a_row_that_was_of_no_sample_is_no_hit_for_an_item_that_is(
    bench: Bench, sessions: Sessions, blobs: BlobStore
) -> None:
    version = sealed(sessions, blobs, FILES[:2])
    job, _ = bench.run(version)
    name, table = table_of(sessions, blobs, job)
    sampled = table["layer_vectors"]
    none_of_second = pa.array([sampled[0].as_py(), None], sampled.type)
    place = table.column_names.index("layer_vectors")
    put_table(blobs, name, table.set_column(place, "layer_vectors", none_of_second), told_of(table))
    job, computed = bench.run(version)
    assert computed == 1
    assert table_of(sessions, blobs, job)[1]["layer_vectors"].null_count == 0


def test_maps_are_told_of_also_behind_a_row_of_a_table_that_has_none(
    bench: Bench, sessions: Sessions, blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for most, files in enumerate((FILES[:1], FILES[1:2])):
        monkeypatch.setattr(label_maps, "MOST_MAPPED", most)
        bench.run(sealed(sessions, blobs, files))
    # of two items the second is sampled
    job, computed = bench.run(sealed(sessions, blobs, FILES[:2]))
    assert computed == 0
    _, table = table_of(sessions, blobs, job)
    assert table["label_maps"].is_valid().to_pylist() == [False, True]
    assert told_of(table)["maps"]["layer"] == 6


def test_all_of_a_job_is_tried_again_without_what_it_found(
    bench: Bench, sessions: Sessions, blobs: BlobStore
) -> None:
    job, computed = bench.run(sealed(sessions, blobs, FILES[:2]))
    retry = bench.api.post(f"/v1/jobs/{job['id']}/retry", json={"scope": "all"}).json()
    work(bench.runtime)
    assert bench.computed == 2 * computed
    assert not any(item.get("cached") for item in results(bench.api, retry))
