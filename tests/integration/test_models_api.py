"""What the API says of models: their sizes, who serves them, what waits, and why nobody can."""

import json
import time
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from api.settings import ApiSettings
from engine.catalog import DEFAULT_MODEL
from jobs import queries, workers
from models.types import Priority, WorkerState
from models.worker import Worker
from tests.ledger import MODEL, claim, submit_texts

ERROR = {"code": "model-load-failed", "message": "torn"}


@pytest.fixture
def settings(settings: ApiSettings, tmp_path: Path) -> ApiSettings:
    """With two checkpoints of the operator's own, of which one cannot be read here."""
    (tmp_path / "own").mkdir()
    vision = {"image_size": 48, "patch_size": 14, "hidden_size": 32, "num_hidden_layers": 3}
    (tmp_path / "own" / "config.json").write_text(json.dumps({"vision_config": vision}))
    return settings.model_copy(
        update={"model_paths": {"own/siglip": tmp_path / "own", "elsewhere": tmp_path / "elsewhere"}}
    )


def read(api: TestClient, name: str = MODEL) -> dict[str, Any]:
    view: dict[str, Any] = api.get(f"/v1/models/{name}").raise_for_status().json()
    return view


def test_every_name_of_the_catalog_is_listed_with_its_sizes(api: TestClient) -> None:
    models = {model["name"]: model for model in api.get("/v1/models").raise_for_status().json()["items"]}
    assert len(models) == 11 + 1 + 2
    assert models[DEFAULT_MODEL]["dimensions"] == {
        "image_size": 384,
        "patch_size": 14,
        "grid": [27, 27],
        "patch_tokens": 729,
        "layers": 27,
        "hidden_size": 1152,
        "attention_heads": 16,
        "mlp_size": 4304,
    }
    assert models["own/siglip"]["dimensions"]["grid"] == [3, 3]
    assert models["elsewhere"]["dimensions"] is None
    assert [name for name, model in models.items() if model["default"]] == [MODEL]
    assert read(api, "elsewhere") == models["elsewhere"]
    assert models[DEFAULT_MODEL]["queue"] == {"waiting_items": 0, "running_items": 0, "oldest_s": None}


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("nobody/knows", "unknown-model"),
        ("google/siglip-base-patch32-224", "model-does-not-exist"),
        ("google/siglip2-base-patch16-naflex", "model-not-supported"),
        ("nobody", "unknown-model"),
        ("..%2F..%2Fetc%2Fpasswd", "not-found"),
        ("too/many/parts", "not-found"),
    ],
)
def test_a_name_that_is_no_model_is_not_found(api: TestClient, name: str, code: str) -> None:
    answer = api.get(f"/v1/models/{name}")
    assert (answer.status_code, answer.json()["code"]) == (404, code)
    assert answer.headers["Content-Type"] == "application/problem+json"
    if code != "not-found":
        assert (
            f"Supported: {', '.join(model['name'] for model in api.get('/v1/models').json()['items'])}"
            in (answer.json()["detail"])
        )


def test_a_model_tells_what_waits_and_what_runs(api: TestClient, sessions: sessionmaker[Session]) -> None:
    submit_texts(sessions, 20)
    submit_texts(sessions, 3, model="own/siglip", priority=Priority.BULK)
    assert claim(sessions) is not None
    queue = read(api)["queue"]
    assert (queue["waiting_items"], queue["running_items"]) == (19, 1)
    assert 0 <= queue["oldest_s"] < 60
    assert claim(sessions, model="own/siglip") is not None
    assert read(api, "own/siglip")["queue"] == {"waiting_items": 0, "running_items": 3, "oldest_s": None}


def test_a_model_without_a_worker_tells_why_its_last_one_could_not_load(
    api: TestClient, sessions: sessionmaker[Session]
) -> None:
    first, second = uuid.uuid4(), uuid.uuid4()

    def start(worker_id: uuid.UUID) -> None:
        with sessions.begin() as session:
            workers.register(session, worker_id, model=MODEL, device=None, dtype="float32")

    def come_online(worker_id: uuid.UUID) -> None:
        with sessions.begin() as session:
            workers.report_online(session, worker_id, device="cpu", dtype="float32", revision=None)

    def seen() -> tuple[int, str | None]:
        view = read(api)
        return view["workers_online"], view["error"] and view["error"]["code"]

    job = api.post("/v1/jobs", json={"type": "embedding", "input": {"texts": ["a ring"]}}).json()

    def obstacle() -> Any:
        waiting_for = api.get(job["links"]["self"]).json()["waiting_for"]
        return waiting_for and waiting_for["code"]

    assert (seen(), obstacle()) == ((0, None), "no-worker")
    start(first)
    assert seen() == (0, None)
    with sessions.begin() as session:
        workers.report_failed(session, first, ERROR)
    assert read(api)["error"] == ERROR
    assert api.get(job["links"]["self"]).json()["waiting_for"] == ERROR
    start(first)
    start(second)
    assert seen() == (0, ERROR["code"]), "it tries again: until it is online, its last try is what is known"
    come_online(first)
    assert (seen(), obstacle()) == ((1, None), None)
    with sessions.begin() as session:
        workers.report_failed(session, second, ERROR)
    assert seen() == (1, None), "another one serves it"
    with sessions.begin() as session:
        workers.report_alive(session, first)
        workers.report_offline(session, first)
    assert seen() == (0, None), "the last one that was heard of had loaded it"


def test_the_rate_of_a_model_is_what_its_workers_measured_lately(
    api: TestClient, sessions: sessionmaker[Session]
) -> None:
    assert read(api)["gflop_per_s"] is None
    first, second, silent = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
    with sessions.begin() as session:
        for worker_id, measured in ((first, 0.01), (second, 0.03), (silent, 5.0)):
            workers.register(session, worker_id, model=MODEL, device="cpu", dtype="float32")
            session.get_one(Worker, worker_id).seconds_per_gflop = measured
        session.get_one(Worker, silent).seen_at -= timedelta(hours=1)
        session.get_one(Worker, first).state = WorkerState.DRAINING
        session.get_one(Worker, silent).state = WorkerState.DRAINING
    assert read(api)["gflop_per_s"] == 50
    shown = {worker["id"]: worker for worker in api.get("/v1/workers").json()["items"]}
    seen = [
        (shown[f"wrk_{each.hex}"]["state"], shown[f"wrk_{each.hex}"]["gflop_per_s"])
        for each in (first, silent)
    ]
    assert seen == [("draining", 100.0), ("offline", 0.2)]
    assert read(api)["workers_online"] == 0, "one that drains takes no more"


def test_the_oldest_that_waits_is_the_first_to_arrive_not_the_next_to_be_claimed(
    sessions: sessionmaker[Session],
) -> None:
    submit_texts(sessions, 3, priority=Priority.BULK)
    submit_texts(sessions, 3, priority=Priority.BULK)
    time.sleep(0.2)
    submit_texts(sessions, priority=Priority.INTERACTIVE)
    held = [claim(sessions), claim(sessions)]
    assert [each and each.size for each in held] == [3, 1], "the new one was served before the second"
    with sessions() as session:
        ((model, waiting, running, oldest_s),) = session.execute(queries.queue_depths()).all()
    assert (model, waiting, running) == (MODEL, 3, 4)
    assert 0.2 <= (oldest_s or 0) < 60
