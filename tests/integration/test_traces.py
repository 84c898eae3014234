"""One trace from a submit to its result, over the real ledger; and nothing of it where nobody asks."""

import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence

import pytest
from fastapi.testclient import TestClient
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy.orm import Session, sessionmaker

from jobs import tracing
from jobs.blobs import BlobStore
from tests.ledger import scalar
from tests.runtimes import FailingEngine, runtime_of
from worker import time_slice
from worker.heartbeat import Heartbeat

Sessions = sessionmaker[Session]
TEXTS = {"type": "embedding", "input": {"texts": ["one"]}}
CLIENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def exported() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use(provider)
    yield exporter
    tracing.use(None)


def named(spans: Sequence[ReadableSpan], name: str) -> list[ReadableSpan]:
    return [span for span in spans if span.name == name]


def context(span: ReadableSpan) -> tuple[int, int]:
    assert span.context is not None
    return span.context.trace_id, span.context.span_id


def test_a_trace_leads_from_the_submit_to_the_result_of_each_job_of_a_batch(
    exported: InMemorySpanExporter,
    api: TestClient,
    sessions: Sessions,
    blobs: BlobStore,
    heartbeat: Heartbeat,
) -> None:
    jobs = [api.post("/v1/jobs", json=TEXTS, headers=told) for told in ({}, {"traceparent": CLIENT})]
    # both in one batch
    engine = FailingEngine()
    time_slice.run_slice(runtime_of(engine, sessions, blobs, heartbeat))
    assert len(engine.batches) == 1
    spans = exported.get_finished_spans()
    submits = named(spans, "POST /v1/jobs")
    works = named(spans, "work")
    assert len(submits) == len(works) == 2
    for job, submit, work in zip(jobs, submits, works, strict=True):
        assert submit.attributes is not None
        assert work.attributes is not None
        assert submit.attributes["request_id"] == job.headers["X-Request-Id"]
        assert work.attributes["job_id"] == str(uuid.UUID(job.json()["id"].removeprefix("job_")))
        assert work.parent is not None
        assert (work.parent.trace_id, work.parent.span_id) == context(submit)
        parts = [span for span in spans if span.parent and span.parent.span_id == context(work)[1]]
        assert [part.name for part in parts] == ["claim", "forward", "store"]
        assert {context(part)[0] for part in parts} == {context(submit)[0]}
        for part in parts:
            assert work.start_time is not None
            assert part.end_time is not None
            assert work.end_time is not None
            assert work.start_time <= (part.start_time or 0) <= part.end_time <= work.end_time
    # the second is part of its client's
    assert submits[0].parent is None
    assert f"{context(submits[1])[0]:032x}" == CLIENT.split("-")[1]


def test_without_a_collector_nothing_is_kept(api: TestClient, sessions: Sessions) -> None:
    api.post("/v1/jobs", json=TEXTS, headers={"traceparent": CLIENT})
    assert scalar(sessions, "SELECT traceparent FROM jobs") is None


def test_without_the_extra_a_collector_is_named_in_vain() -> None:
    code = (
        "import sys; sys.modules['opentelemetry.sdk'] = sys.modules['opentelemetry.exporter'] = None;"
        "import api.app, worker.stages; from jobs import tracing; tracing.configure('x');"
        "sys.exit(tracing.is_on())"
    )
    environment = {"PYTHONPATH": ".", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, env=environment, capture_output=True, text=True
    )
    assert "traces.not_installed" in done.stdout


def test_a_traceparent_that_is_none_begins_a_trace_of_its_own(
    exported: InMemorySpanExporter, api: TestClient
) -> None:
    assert api.post("/v1/jobs", json=TEXTS, headers={"traceparent": "00-' OR 1=1"}).status_code == 202
    (submit,) = named(exported.get_finished_spans(), "POST /v1/jobs")
    assert submit.parent is None


def test_a_collector_that_is_named_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    try:
        tracing.configure("lensqueue-api")
        assert tracing.is_on()
    finally:
        tracing.use(None)
