"""A submit in one statement: it leaves the rows of the general way, and all of them or none."""

import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import inspect, text
from sqlalchemy.orm import Session, sessionmaker

from engine.catalog import Catalog
from jobs import images, submit
from jobs.admission import Quota, admit
from jobs.errors import UnknownImageError
from jobs.images import Content
from jobs.remote import Unfetched
from jobs.storing import MOST_ITEMS, Stored, store_at_once
from jobs.submission import ImageItem, Item, Submission, Terms, TextItem
from jobs.units import Admission
from models.job import Job
from models.types import JobType, Priority
from tests.ledger import MODEL, TENANT, scalar

Sessions = sessionmaker[Session]
PICTURES = [Content(f"{index:064x}", 10 + index, "image/jpeg") for index in range(5)]


def wanted(items: Sequence[Item], **more: Any) -> Submission:
    return Submission(
        type=JobType.EMBEDDING,
        model=MODEL,
        items=items,
        options={"normalize": True, "deep": {"ring": [1, 2.5, None, "ü\n"]}},
        priority=Priority.BULK,
        terms=Terms(timedelta(seconds=90), timedelta(minutes=5), timedelta(days=2)),
        tags={"project": "Ringe"},
        key_id=uuid.UUID(int=5),
        **more,
    )


def admitted(sessions: Sessions, submission: Submission) -> Admission:
    with sessions.begin() as session:
        return admit(session, TENANT, submission, Catalog(), Quota())


def store(sessions: Sessions, submission: Submission) -> Stored | None:
    admission = admitted(sessions, submission)
    with sessions.begin() as session:
        return store_at_once(session, TENANT, submission, admission)


def keep(sessions: Sessions, *contents: Content) -> list[uuid.UUID]:
    with sessions.begin() as session:
        kept = images.keep(session, TENANT, contents)
    return [kept[content.sha256].image.id for content in contents]


def rows(sessions: Sessions, job_id: uuid.UUID) -> list[Any]:
    """All that is stored of a job but its ids, and the times and the place that the queue gave it."""
    with sessions() as session:
        return [
            *session.execute(
                text("""
                    SELECT to_jsonb(jobs) - ARRAY[
                               'id', 'charge_id', 'created_at', 'vtime_end', 'start_by', 'result_ttl'
                           ],
                           start_by - created_at, extract(epoch FROM result_ttl)
                    FROM jobs WHERE id = :id
                """),
                {"id": job_id},
            ),
            *session.execute(
                text("SELECT unit, items, image_ids FROM job_inputs WHERE job_id = :id ORDER BY unit"),
                {"id": job_id},
            ),
            *session.execute(
                text("""
                    SELECT to_jsonb(work) - ARRAY['id', 'job_id', 'vtime', 'run_at'],
                           round(CAST(vtime - min(vtime) OVER () AS numeric), 9)
                    FROM work WHERE job_id = :id ORDER BY unit
                """),
                {"id": job_id},
            ),
        ]


def of_every_kind(sessions: Sessions) -> list[Item]:
    [first, second] = keep(sessions, PICTURES[0], PICTURES[1])
    return [
        ImageItem(first, "by its id"),
        ImageItem(PICTURES[0], "the same by its bytes"),
        ImageItem(PICTURES[2], 'new: "quoted" \\ and\nbroken'),
        ImageItem(Unfetched("https://example.org/a.jpg", "url-refused", "no")),
        ImageItem(second),
        ImageItem(PICTURES[2], "twice"),
    ]


@pytest.mark.parametrize("count", [1, MOST_ITEMS // 6])
def test_the_rows_are_those_of_the_general_way(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    for items in (
        [TextItem(f"text {index} 'ü", f"t{index}") for index in range(count)],
        of_every_kind(sessions) * count,
    ):
        submission = wanted(items)
        stored = store(sessions, submission)
        assert stored is not None
        admission = admitted(sessions, submission)
        with monkeypatch.context() as patched, sessions.begin() as session:
            # what makes it the general way: more than one statement takes
            patched.setattr("jobs.storing.MOST_ITEMS", 0)
            general = submit.submit(session, TENANT, submission, admission)
        quick, slow = rows(sessions, stored.job.id), rows(sessions, general.id)
        assert quick == slow
        assert len(quick) >= 3


def test_the_job_that_is_told_is_the_job_that_is_stored(sessions: Sessions) -> None:
    stored = store(sessions, wanted(of_every_kind(sessions)))
    assert stored is not None
    with sessions() as session:
        read = session.get_one(Job, stored.job.id)
        for column in inspect(Job).column_attrs:
            assert getattr(stored.job, column.key) == getattr(read, column.key), column.key
    assert stored.outlook.queue_position == 1


@pytest.mark.parametrize("source", ["unknown", "another tenant's", "dying"])
def test_nothing_is_stored_where_a_picture_cannot_be_had(sessions: Sessions, source: str) -> None:
    [kept] = keep(sessions, PICTURES[0])
    if source == "dying":
        with sessions.begin() as session:
            images.delete_image(session, TENANT, kept)
    elif source == "another tenant's":
        with sessions.begin() as session:
            session.execute(text("UPDATE images SET tenant = 'another'"))
    named = uuid.UUID(int=9) if source == "unknown" else kept
    submission = wanted([ImageItem(named), ImageItem(PICTURES[3])])
    assert store(sessions, submission) is None
    with pytest.raises(UnknownImageError) as refused, sessions.begin() as session:
        submit.submit(session, TENANT, submission, admitted(sessions, submission))
    assert refused.value.pointers == ["/input/images/0/image_id"]
    assert scalar(sessions, "SELECT count(*) FROM jobs") == 0
    assert scalar(sessions, "SELECT count(*) FROM work") == 0


def test_more_than_the_quick_way_takes_is_stored_the_general_way(sessions: Sessions) -> None:
    submission = wanted([TextItem("a text")] * (MOST_ITEMS + 1))
    assert store(sessions, submission) is None
    admission = admitted(sessions, submission)
    with sessions.begin() as session:
        submit.submit(session, TENANT, submission, admission)
    assert scalar(sessions, "SELECT sum(jsonb_array_length(items)) FROM job_inputs") == MOST_ITEMS + 1


def test_bytes_that_are_dying_come_back_with_a_job(sessions: Sessions) -> None:
    [kept] = keep(sessions, PICTURES[0])
    with sessions.begin() as session:
        images.delete_image(session, TENANT, kept)
    submission = wanted([ImageItem(PICTURES[0])])
    assert store(sessions, submission) is None
    admission = admitted(sessions, submission)
    with sessions.begin() as session:
        submit.submit(session, TENANT, submission, admission)
    assert scalar(sessions, "SELECT image_ids[1] FROM job_inputs") == kept
    assert scalar(sessions, "SELECT dying_at FROM images") is None


def test_submits_of_the_same_pictures_at_once_all_come_to_a_job(sessions: Sessions) -> None:
    def one(number: int) -> uuid.UUID:
        own = Content(f"f{number:063x}", 1)
        ordered = PICTURES if number % 2 else PICTURES[::-1]
        submission = wanted([ImageItem(content) for content in [*ordered, own]])
        admission = admitted(sessions, submission)
        with sessions.begin() as session:
            return submit.submit(session, TENANT, submission, admission).id

    with ThreadPoolExecutor(8) as pool:
        jobs = list(pool.map(one, range(40)))
    assert len(set(jobs)) == 40
    assert scalar(sessions, "SELECT count(*) FROM images") == len(PICTURES) + 40
    assert scalar(sessions, "SELECT min(cardinality(image_ids)) FROM job_inputs WHERE unit = 0") >= 1
