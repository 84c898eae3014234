"""Jobs cut into units: every item in exactly one, with its pictures, whatever its text."""

from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker

from engine.catalog import Catalog
from jobs import admission, submit
from jobs.admission import MAX_UNIT_ITEMS, Quota, admit
from jobs.blobs import BlobStore
from jobs.images import Content
from jobs.submission import ImageItem, Submission, TextItem
from jobs.units import UNITS_AT_ONCE, batch_key
from models.types import JobType, Priority
from tests.faults import change
from tests.ledger import MODEL, TENANT, admit_and_submit, claim, read, scalar, submit_texts

Sessions = sessionmaker[Session]
OPTIONS = {"normalize": True}


def rows(sessions: Sessions, query: str) -> list[tuple[Any, ...]]:
    with sessions() as session:
        return [tuple(row) for row in session.execute(text(query))]


def measure(sessions: Sessions, seconds_per_gflop: float) -> None:
    """A worker says how fast it is."""
    row = """INSERT INTO workers (id, hostname, model, state, seconds_per_gflop)
             VALUES (gen_random_uuid(), 'host', :model, 'online', :rate)"""
    change(sessions, "DELETE FROM workers")
    change(sessions, row, model=MODEL, rate=seconds_per_gflop)


@pytest.mark.parametrize("count", [1, 64, 65, 1_000])
def test_every_item_is_in_exactly_one_unit_and_every_unit_is_work(sessions: Sessions, count: int) -> None:
    job_id = submit_texts(sessions, count)
    indexes = rows(
        sessions,
        """SELECT (item ->> 'index')::int FROM job_inputs, jsonb_array_elements(items) AS item
           ORDER BY unit, item -> 'index'""",
    )
    assert [index for (index,) in indexes] == list(range(count))
    unmatched = """SELECT count(*) FROM work FULL JOIN job_inputs USING (job_id, unit)
                   WHERE work.items IS DISTINCT FROM jsonb_array_length(job_inputs.items)"""
    assert scalar(sessions, unmatched) == 0
    assert scalar(sessions, "SELECT sum(cost) FROM work") == pytest.approx(read(sessions, job_id).cost)


def test_a_job_of_more_units_than_are_stored_at_once_is_whole(sessions: Sessions) -> None:
    measure(sessions, 1.0)
    count = UNITS_AT_ONCE + 10
    submit_texts(sessions, count, priority=Priority.BULK)
    assert rows(sessions, "SELECT unit FROM job_inputs ORDER BY unit") == [(unit,) for unit in range(count)]


def test_units_follow_each_other_in_virtual_time_at_the_price_of_the_job(sessions: Sessions) -> None:
    submit_texts(sessions, 100, tenant="one")
    places: list[Any] = [place for (place,) in rows(sessions, "SELECT vtime FROM work ORDER BY unit")]
    assert places == sorted(places)
    assert places[0] == 0
    assert places[1] == pytest.approx(scalar(sessions, "SELECT cost FROM work WHERE unit = 0"))


def test_units_of_bulk_are_about_a_second_by_the_measure_of_the_workers(sessions: Sessions) -> None:
    measure(sessions, 1e-9)
    submit_texts(sessions, 1_000)
    assert scalar(sessions, "SELECT max(items) FROM work") == MAX_UNIT_ITEMS
    measure(sessions, 1e9)
    job_id = submit_texts(sessions, 100)
    assert scalar(sessions, "SELECT max(items) FROM work WHERE job_id = :job_id", job_id=job_id) == 1


def test_units_of_large_arrays_are_small_enough_to_be_held(
    sessions: Sessions, blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure(sessions, 1e-9)
    states = 7 * 100 * 128 * 4
    monkeypatch.setattr(admission, "UNIT_OUTPUT_BYTES", 10 * states + 1)
    content = Content(blobs.put(TENANT, b"picture"), 7, "image/jpeg")
    options = {"labels": ["a ring"], "layers": "all", "patch_layers": None, "patch_method": "head"}

    def unit_items(**asked: Any) -> int:
        images = [ImageItem(content)] * 1_000
        wanted = Submission(JobType.LOGIT_LENS, MODEL, images, options | asked, Priority.BULK)
        with sessions.begin() as session:
            return admit(session, TENANT, wanted, Catalog(), Quota()).unit_items

    assert unit_items(outputs=["pooled"]) == MAX_UNIT_ITEMS
    assert unit_items(outputs=["pooled", "activations"], activation_layers="all") == 10
    monkeypatch.setattr(admission, "UNIT_OUTPUT_BYTES", 1)
    assert unit_items(outputs=["pooled", "activations"]) == 1


@pytest.mark.parametrize(
    "words", ['a "quoted" \\ line\nbreak\ttab', "\\n \\\\ \\N \\.", "\u2028 \u0085 \x0b \x1c 猫"]
)
def test_texts_are_kept_to_the_letter(sessions: Sessions, words: str) -> None:
    items = [TextItem(words, custom_id=words), TextItem("next")]
    admit_and_submit(sessions, Submission(JobType.EMBEDDING, MODEL, items, OPTIONS, Priority.BULK))
    held = claim(sessions)
    assert held is not None
    first, second = held.units[0].items
    assert (first["text"], first["custom_id"], second["text"]) == (words, words, "next")


def test_a_unit_names_each_of_its_pictures_once(sessions: Sessions, blobs: BlobStore) -> None:
    contents = [Content(blobs.put(TENANT, name), len(name), "image/jpeg") for name in (b"one", b"two")]
    items = [ImageItem(source) for source in (*contents, *contents)]
    job_id = admit_and_submit(sessions, Submission(JobType.EMBEDDING, MODEL, items, OPTIONS, Priority.BULK))
    assert read(sessions, job_id).input_bytes == 6
    assert scalar(sessions, "SELECT count(*) FROM job_inputs WHERE cardinality(image_ids) = 2") == 1
    kept = "SELECT count(*) FROM images WHERE id = ANY(ARRAY(SELECT unnest(image_ids) FROM job_inputs))"
    assert scalar(sessions, kept) == 2


def test_singles_share_a_batch_across_tenants_only_without_labels() -> None:
    lens = {"labels": ["a cat"], "layers": "all"}
    vectors = batch_key("one", JobType.EMBEDDING, "image", {"a": 1, "b": 2})
    assert vectors == batch_key("other", JobType.EMBEDDING, "image", {"b": 2, "a": 1})
    assert vectors != batch_key("one", JobType.EMBEDDING, "text", {"a": 1, "b": 2})
    layers = batch_key("one", JobType.LOGIT_LENS, "image", lens)
    assert layers != batch_key("other", JobType.LOGIT_LENS, "image", lens)
    assert layers != batch_key("one", JobType.EMBEDDING, "image", lens)


def test_a_submit_that_fails_leaves_nothing(sessions: Sessions) -> None:
    wanted = Submission(JobType.EMBEDDING, MODEL, [TextItem("good"), TextItem("bad \x00")], OPTIONS)
    with sessions.begin() as session:
        admission = admit(session, TENANT, wanted, Catalog(), Quota())
    with pytest.raises(DBAPIError, match="Unicode"), sessions.begin() as session:
        submit.submit(session, TENANT, wanted, admission)
    assert scalar(sessions, "SELECT count(*) FROM jobs") == 0
