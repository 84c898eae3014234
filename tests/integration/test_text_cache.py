"""Labels are embedded once a tenant, whatever units, jobs and workers they come with."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
import pytest
from sqlalchemy.orm import Session, sessionmaker

from engine.catalog import DEMO_MODEL
from engine.siglip import SiglipEngine
from jobs import text_cache
from jobs.blobs import BlobStore
from jobs.images import Content
from jobs.submission import ImageItem, Submission
from jobs.text_cache import BudgetRound, TextBudget, find_texts, forget_unused, keep_texts
from models.types import JobState, JobType
from tests.faults import change, do, do_all, together
from tests.integration.test_batch import allow_connections
from tests.ledger import MODEL, TENANT, admit_and_submit, assert_settled, read, scalar
from tests.runtimes import runtime_of
from worker import time_slice
from worker.heartbeat import Heartbeat
from worker.labels import LabelCache, Shelf, shown_prompts
from worker.runtime import Runtime, open_decoders

Sessions = sessionmaker[Session]
TEMPLATE = "a photo of a {}"
LABELS: list[Any] = [
    "cyan ring",
    {"name": "diamond", "prompts": ["a red diamond", "a blue diamond"]},
    {"name": "rather a ring", "positive": ["a ring"], "negative": ["a red diamond"]},
]
TEXTS = 4


@pytest.fixture(scope="module")
def engines() -> list[SiglipEngine]:
    """Those of two workers."""
    return [SiglipEngine(DEMO_MODEL, device="cpu") for _ in range(2)]


@pytest.fixture
def passes(engines: Sequence[SiglipEngine]) -> Iterator[list[int]]:
    """The number of texts in each pass of either engine's text tower."""
    seen: list[int] = []
    hooks = [
        engine.model.text_model.register_forward_hook(lambda _, __, out: seen.append(len(out.pooler_output)))
        for engine in engines
    ]
    yield seen
    for hook in hooks:
        hook.remove()


def embed(cache: LabelCache, tenant: str = TENANT) -> np.ndarray[Any, Any]:
    return cache.directions(tenant, LABELS, TEMPLATE).unit


def rows(sessions: Sessions) -> int:
    return int(scalar(sessions, "SELECT count(*) FROM text_embeddings"))


def test_a_job_of_several_units_and_two_workers_embeds_its_labels_once(
    sessions: Sessions,
    blobs: BlobStore,
    heartbeat: Heartbeat,
    picture: bytes,
    engines: Sequence[SiglipEngine],
    passes: list[int],
) -> None:
    stored = Content(blobs.put(TENANT, picture), len(picture), "image/jpeg")
    options = {
        "labels": LABELS,
        "template": TEMPLATE,
        "outputs": ["pooled"],
        "layers": "all",
        "patch_layers": None,
        "patch_method": "head",
    }
    items = [ImageItem(stored)] * 4
    job_id = admit_and_submit(sessions, Submission(JobType.LOGIT_LENS, MODEL, items, options))

    def work(engine: SiglipEngine, **settings: Any) -> Runtime:
        runtime = runtime_of(engine, sessions, blobs, heartbeat, batch_items=1, **settings)
        with open_decoders(runtime.settings, engine.provenance["pixel_path"]) as decoders:
            time_slice.run_slice(replace(runtime, decoders=decoders))
        return runtime

    work(engines[0], slice_seconds=0)
    assert passes == [TEXTS]
    left = scalar(sessions, "SELECT count(*) FROM work")
    assert 0 < left < len(items)
    work(engines[1])
    assert passes == [TEXTS]
    job = read(sessions, job_id)
    assert (job.state, job.succeeded) == (JobState.SUCCEEDED, len(items))
    assert_settled(sessions)
    assert job.provenance is not None
    assert job.provenance["prompts"] == [
        "a photo of a cyan ring",
        ["a red diamond", "a blue diamond"],
        {"positive": ["a ring"], "negative": ["a red diamond"]},
    ]
    scores = scalar(sessions, "SELECT count(DISTINCT payload -> 'pooled') FROM results")
    names = scalar(sessions, "SELECT payload -> 'pooled' -> 'labels' FROM results LIMIT 1")
    assert (scores, names) == (1, ["cyan ring", "diamond", "rather a ring"])


def test_a_restarted_worker_finds_the_very_numbers_that_were_kept(
    sessions: Sessions, engines: Sequence[SiglipEngine], passes: list[int]
) -> None:
    first = embed(LabelCache(engines[0], sessions))
    again = embed(LabelCache(engines[1], sessions))
    assert passes == [TEXTS]
    np.testing.assert_array_equal(again, first)
    np.testing.assert_array_equal(engines[0].embed_labels(LABELS, TEMPLATE).unit, first)


def test_texts_of_one_tenant_are_not_found_by_another(
    sessions: Sessions, engines: Sequence[SiglipEngine], passes: list[int]
) -> None:
    cache = LabelCache(engines[0], sessions)
    mine, theirs = embed(cache), embed(cache, "another")
    assert passes == [TEXTS, TEXTS]
    np.testing.assert_array_equal(mine, theirs)
    assert rows(sessions) == 2 * TEXTS
    assert scalar(sessions, "SELECT count(DISTINCT key) FROM text_embeddings") == TEXTS


def test_labels_are_embedded_without_a_database(
    sessions: Sessions, engines: Sequence[SiglipEngine], passes: list[int]
) -> None:
    expected = embed(LabelCache(engines[0], sessions))
    allow_connections(sessions, False)
    try:
        np.testing.assert_array_equal(embed(LabelCache(engines[0], sessions)), expected)
    finally:
        allow_connections(sessions, True)
    assert passes == [TEXTS, TEXTS]
    # a schema of before is no fault of the job either
    change(sessions, "DROP TABLE text_embeddings")
    np.testing.assert_array_equal(embed(LabelCache(engines[0], sessions)), expected)


def test_a_database_that_is_lost_is_not_asked_again_for_the_same_labels(sessions: Sessions) -> None:
    shelf = Shelf(sessions, TENANT)
    allow_connections(sessions, False)
    try:
        assert shelf.find([b"key"]) == {}
    finally:
        allow_connections(sessions, True)
    shelf.keep({b"key": np.ones(4, np.float32)})
    assert rows(sessions) == 0


def test_no_transaction_is_open_while_the_model_is_at_work(
    sessions: Sessions, engines: Sequence[SiglipEngine]
) -> None:
    seen: list[int] = []

    def look() -> None:
        seen.append(
            scalar(
                sessions,
                """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                   AND pid <> pg_backend_pid() AND xact_start IS NOT NULL""",
            )
        )

    cache = LabelCache(engines[0], sessions)
    cache.directions(TENANT, [f"ring {number}" for number in range(100)], TEMPLATE, look)
    assert seen == [0, 0]


def test_a_text_is_marked_as_used_once_a_day(sessions: Sessions) -> None:
    vectors = {bytes([number]): b"1234" for number in range(3)}
    with sessions.begin() as session:
        keep_texts(session, TENANT, vectors)

    def use_after(hours: int) -> int:
        change(sessions, "UPDATE text_embeddings SET used_at = now() - make_interval(hours => :h)", h=hours)
        with sessions.begin() as session:
            assert find_texts(session, TENANT, [b"\0", b"\1", b"none"]) == {b"\0": b"1234", b"\1": b"1234"}
        return int(
            scalar(
                sessions, "SELECT count(*) FROM text_embeddings WHERE used_at > now() - interval '1 minute'"
            )
        )

    assert use_after(hours=23) == 0
    assert use_after(hours=25) == 2


def test_what_is_kept_already_stays_as_it_is(sessions: Sessions) -> None:
    for vector in (b"first", b"second"):
        with sessions.begin() as session:
            keep_texts(session, TENANT, {b"key": vector})
    with sessions() as session:
        assert find_texts(session, TENANT, [b"key"]) == {b"key": b"first"}


def test_workers_that_embed_the_same_labels_at_once_do_not_get_in_each_others_way(sessions: Sessions) -> None:
    keys = [number.to_bytes(32) for number in range(2_000)]

    def keep(order: Sequence[bytes]) -> None:
        with sessions.begin() as session:
            keep_texts(session, TENANT, dict.fromkeys(order, b"vector"))

    def find(order: Sequence[bytes]) -> int:
        with sessions.begin() as session:
            return len(find_texts(session, TENANT, order))

    orders = (keys, keys[::-1], keys[1_000:] + keys[:1_000])
    together(*(partial(keep, order) for order in orders))
    change(sessions, "UPDATE text_embeddings SET used_at = now() - interval '2 days'")
    assert together(*(partial(find, order) for order in orders)) == [len(keys)] * 3


def fill(sessions: Sessions, tenant: str, count: int, *, days: int = 0) -> None:
    """So many texts of 100 bytes, the later the longer unused."""
    change(
        sessions,
        """INSERT INTO text_embeddings (tenant, key, vector, used_at)
           SELECT :tenant, int4send(:days * 1000 + n), convert_to(repeat('x', 100), 'UTF8'),
                  now() - make_interval(days => :days, mins => n) FROM generate_series(1, :count) AS n""",
        tenant=tenant,
        count=count,
        days=days,
    )


def held(sessions: Sessions, tenant: str) -> int:
    return int(scalar(sessions, "SELECT count(*) FROM text_embeddings WHERE tenant = :tenant", tenant=tenant))


def test_texts_that_nobody_uses_are_forgotten(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_cache, "ROWS_AT_ONCE", 2)
    fill(sessions, "a", 3, days=9)
    fill(sessions, "b", 2, days=11)
    fill(sessions, "c", 1, days=12)
    budget = TextBudget(unused=timedelta(days=10))
    assert do_all(sessions, lambda session: forget_unused(session, budget)) == 2
    assert [held(sessions, tenant) for tenant in "abc"] == [3, 0, 0]


def test_a_tenant_over_its_budget_loses_what_it_used_longest_ago(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_cache, "ROWS_AT_ONCE", 2)
    fill(sessions, "a", 10)
    fill(sessions, "b", 3)
    fill(sessions, "c", 4)
    duty = BudgetRound(TextBudget(tenant_bytes=350))
    assert do_all(sessions, duty) > 0
    assert [held(sessions, tenant) for tenant in "abc"] == [3, 3, 3]
    oldest = scalar(sessions, "SELECT now() - min(used_at) FROM text_embeddings WHERE tenant = 'a'")
    assert oldest < timedelta(minutes=4)


def test_budgets_are_looked_at_now_and_then(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    duty = BudgetRound(TextBudget(tenant_bytes=0))
    assert do_all(sessions, duty) == 0
    fill(sessions, "a", 1)
    assert do(sessions, duty) == 0
    later = time.monotonic() + text_cache.ROUND_SECONDS + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert do_all(sessions, duty) == 1
    assert held(sessions, "a") == 0


def test_a_poll_shows_so_many_prompts_and_no_half_labels() -> None:
    prompts = ["one", ("two", "three"), None, {"positive": ("four",), "negative": ("five", "six")}, "seven"]
    assert shown_prompts(prompts, 100) == prompts
    assert shown_prompts(prompts, 7) == prompts[:4]
    assert shown_prompts(prompts, 6) == prompts[:3]
    assert shown_prompts(prompts, 2) == prompts[:1]
