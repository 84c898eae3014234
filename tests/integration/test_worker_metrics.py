"""What a worker measures while it works over the real ledger, and where it tells that."""

import socket
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy.orm import Session, sessionmaker

from jobs.blobs import BlobStore
from models.types import Priority
from tests.ledger import MODEL, submit_texts
from tests.runtimes import FailingEngine, runtime_of
from worker import metrics, time_slice
from worker.heartbeat import Heartbeat
from worker.memory import Memory

Sessions = sessionmaker[Session]


def value(name: str, **labels: str) -> float:
    return metrics.REGISTRY.get_sample_value(name, labels) or 0.0


def growth(names: dict[str, tuple[str, dict[str, str]]]) -> Callable[[], dict[str, float]]:
    """How much each grew from now on."""
    before = {key: value(name, **labels) for key, (name, labels) in names.items()}
    return lambda: {key: value(name, **labels) - before[key] for key, (name, labels) in names.items()}


def test_stages_claims_and_items_are_counted(
    sessions: Sessions, blobs: BlobStore, heartbeat: Heartbeat
) -> None:
    submit_texts(sessions, 5, priority=Priority.BULK)
    engine = FailingEngine()
    stages = "lensqueue_worker_stage_seconds_count"
    grown = growth(
        {
            "claim": (stages, {"stage": "claim"}),
            "forward": (stages, {"stage": "forward"}),
            "store": (stages, {"stage": "store"}),
            "completed": ("lensqueue_worker_claims_total", {"outcome": "completed"}),
            "succeeded": ("lensqueue_worker_items_total", {"outcome": "succeeded"}),
            "failed": ("lensqueue_worker_items_total", {"outcome": "failed"}),
            "batched": ("lensqueue_worker_batch_items_total", {}),
            "places": ("lensqueue_worker_batch_places_total", {}),
        }
    )
    time_slice.run_slice(runtime_of(engine, sessions, blobs, heartbeat))
    found = grown()
    assert found["forward"] == len(engine.batches)
    assert found["claim"] >= 2
    assert (found["store"], found["completed"]) == (1, 1)
    assert (found["succeeded"], found["failed"]) == (5, 0)
    assert found["batched"] == 5
    assert found["places"] >= 5


def test_a_heartbeat_tells_of_itself_and_of_memory(sessions: Sessions, heartbeat: Heartbeat) -> None:
    heartbeat.measure = lambda: Memory(3, 5)
    beats = growth({"told": ("lensqueue_worker_heartbeats_total", {"outcome": "told"})})
    while beats()["told"] < 3:
        time.sleep(0.01)
    assert (value("lensqueue_worker_memory_bytes"), value("lensqueue_worker_memory_limit_bytes")) == (3, 5)


def test_they_are_told_with_the_model_once_the_port_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "RETRY_SECONDS", 0.05)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        metrics.serve(MODEL, "127.0.0.1", port)
    told: Any = None
    while told is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=1) as answer:
                told = answer.read().decode()
        except OSError:
            time.sleep(0.01)
    samples = [sample for family in text_string_to_metric_families(told) for sample in family.samples]
    assert {sample.labels["model"] for sample in samples} == {MODEL}
    assert "lensqueue_worker_batch_items_total" in {sample.name for sample in samples}
