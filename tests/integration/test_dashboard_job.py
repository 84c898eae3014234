"""The page of a job and those of its items: what they show, to whom, and what can be done by them."""

import io
import json
import uuid
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from sqlalchemy import select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session, sessionmaker

from api.app import create_app
from api.schemas.ids import job_id
from api.settings import ApiSettings
from jobs import job_pages
from jobs.blobs import BlobStore
from jobs.submission import Submission, TextItem
from jobs.submit import submit
from models.audit import AuditEntry
from models.types import JobType, Role
from tests.dashboard import OWN, add_account, sign_in
from tests.faults import change
from tests.finished import embedding_payloads, finish_with
from tests.ingestions import Ingest
from tests.integration.test_plans import indexes, nodes, plan_of, rows_read
from tests.ledger import MODEL, TENANT, admit_alone, claim, complete, read, submit_texts
from tests.mapped import GRID, finish_mapped
from tests.packed import zip_of
from tests.scenes import tiny_png
from worker.analyst import run_slice
from worker.analyst_runtime import Analyst

Sessions = sessionmaker[Session]
EVIL = '"><script>alert(1)</script>'


@pytest.fixture
def browser(settings: ApiSettings, sessions: Sessions) -> Iterator[TestClient]:
    add_account(sessions, "ada@example.org", Role.ADMIN)
    add_account(sessions, "viewer@example.org", Role.VIEWER, TENANT)
    add_account(sessions, "stranger@example.org", Role.ADMIN, "another")
    with TestClient(create_app(settings), base_url="https://testserver") as client:
        yield sign_in(client, "ada@example.org")


def as_other(browser: TestClient, email: str) -> None:
    browser.cookies.clear()
    sign_in(browser, email)


def mapped(sessions: Sessions, blobs: BlobStore) -> str:
    """A job of three in which everything that users write is evil."""
    scores = np.random.default_rng(5).uniform(-0.2, 0.2, (2, 2, *GRID)).astype(np.float32)
    job = finish_mapped(sessions, blobs, scores, labels=[EVIL, "dog"], name=EVIL)
    change(sessions, "UPDATE jobs SET tags = :tags WHERE id = :id", tags=json.dumps({EVIL: EVIL}), id=job)
    return f"/admin/jobs/{job_id(job)}"


def verbs(sessions: Sessions) -> list[tuple[str, str, str | None]]:
    with sessions() as session:
        found = session.scalars(select(AuditEntry).order_by(AuditEntry.id)).all()
    return [(entry.verb, entry.target, entry.reason) for entry in found if entry.verb.startswith("job.")]


def test_the_page_shows_what_was_asked_for_what_was_found_and_every_try(
    browser: TestClient, sessions: Sessions, blobs: BlobStore
) -> None:
    url = mapped(sessions, blobs)
    page = browser.get(url)
    assert page.status_code == 200
    for shown in ("Logit lens of 3 items", "partial", "image-truncated", "torn", "completed", "tenant tests"):
        assert shown in page.text
    assert page.text.count('id="attempt-') == 3
    # what users write is text
    assert "<script>alert" not in page.text
    assert "&lt;script&gt;alert(1)" in page.text
    # the picture is torn for good
    assert "Those that failed would fail again" in page.text
    change(sessions, "UPDATE results SET error = error || '{\"retryable\": true}' WHERE index = 2")
    assert "would fail again" not in browser.get(url).text
    failures = browser.get(f"{url}?failed=1").text
    assert 'id="item-2"' in failures
    assert 'id="item-0"' not in failures
    behind = browser.get(f"{url}?after=1&tried=1.1").text
    assert ('id="item-2"' in behind, 'id="item-1"' in behind) == (True, False)
    assert ('id="attempt-2-1"' in behind, 'id="attempt-1-1"' in behind) == (True, False)
    part = browser.get(f"{url}/parts?failed=1").text
    assert "<html" not in part
    assert 'id="item-2"' in part


def test_a_try_that_completed_says_how_many_of_its_items_failed(
    browser: TestClient, sessions: Sessions
) -> None:
    def texts(count: int) -> Submission:
        return Submission(JobType.EMBEDDING, MODEL, [TextItem(f"text {n}") for n in range(count)], {})

    def tries(count: int, failing: tuple[int, ...]) -> str:
        admission = replace(admit_alone(sessions, wanted := texts(count)), unit_items=count)
        with sessions.begin() as session:
            job = submit(session, TENANT, wanted, admission).id
        held = claim(sessions)
        assert held is not None
        assert complete(sessions, held, failing=failing)
        page = browser.get(f"/admin/jobs/{job_id(job)}").text
        return page[page.index('id="attempts"') :]

    assert "2 of 3 items failed" in tries(3, (0, 2))
    assert "all 2 items failed" in tries(2, (0, 1))
    assert "its item failed" in tries(1, (0,))
    assert "failed" not in tries(2, ())


def test_an_ingestion_that_added_nothing_does_not_look_like_one_that_did(
    browser: TestClient, ingest: Ingest, analyst: Analyst
) -> None:
    archive = zip_of({"a.png": tiny_png(1), "b.png": b"no picture"})

    def page_of_another() -> tuple[str, str]:
        url = f"/admin/jobs/{job_id(ingest(archive))}"
        assert not run_slice(analyst)
        return browser.get(url).text, browser.get(f"{url}/items/0").text

    assert all("1 added, 1 failed" in page for page in page_of_another())
    assert all("Nothing was added: 2 there already" in page for page in page_of_another())


def test_a_lens_is_shown_at_the_layer_and_label_of_its_address(
    browser: TestClient, sessions: Sessions, blobs: BlobStore
) -> None:
    url = mapped(sessions, blobs)
    page = browser.get(f"{url}/items/0").text
    assert f'src="{url}/items/0/thumbnail.jpg"' in page
    assert f"{url}/items/0/heatmap.png?layer=4&amp;label=%22%3E%3Cscript" in page
    assert "settles at layer 4" in page
    assert "<script>alert" not in page
    assert "dog, layer 2" in browser.get(f"{url}/items/0?layer=2&label=dog").text
    # a layer that was scored, of which there is no map
    assert "No map was asked for" in browser.get(f"{url}/items/0?layer=0").text
    drawn = browser.get(f"{url}/items/0/heatmap.png", params={"layer": 2, "label": "dog"})
    with Image.open(io.BytesIO(drawn.content), formats=["PNG"]) as picture:
        assert picture.width == 640
    again = browser.get(
        f"{url}/items/0/heatmap.png?layer=2&label=dog", headers={"If-None-Match": drawn.headers["ETag"]}
    )
    assert again.status_code == 304
    assert browser.get(f"{url}/items/0/thumbnail.jpg").headers["Content-Type"] == "image/jpeg"
    for wrong in ("layer=3", "label=horse", "map=token_norms", "map=none", "layer=x"):
        assert browser.get(f"{url}/items/0?{wrong}").status_code == 422, wrong
    assert "that read best in the end" not in page
    change(
        sessions,
        """UPDATE jobs SET options = jsonb_set(options, '{labels}', (
               SELECT jsonb_agg(CAST(n AS text)) FROM generate_series(1, 1000) AS n))""",
    )
    assert "Of 1,000 labels the 2 that read best in the end are kept" in browser.get(f"{url}/items/0").text
    # a pooled lens alone, a failure, and nothing
    assert "data-curve" in (pooled := browser.get(f"{url}/items/1").text)
    assert "thumbnail" not in pooled
    assert "This job kept no maps: ask for the output <code>patch</code>" in pooled
    assert "True label" not in pooled
    assert "image-truncated" in browser.get(f"{url}/items/2").text
    assert browser.get(f"{url}/items/3").status_code == 404
    assert browser.get(f"{url}/items/0/result.json").json()["top"]["label"] == EVIL


def test_an_embedding_is_shown_by_its_length_and_its_beginning(
    browser: TestClient, sessions: Sessions
) -> None:
    url = f"/admin/jobs/{job_id(submit_texts(sessions, 2))}"
    assert "No worker is online" in browser.get(url).text
    waiting = browser.get(f"{url}/items/1")
    assert (waiting.status_code, "No result yet" in waiting.text) == (200, True)
    payloads, drawn = embedding_payloads(2)
    finish_with(sessions, payloads)
    page = browser.get(f"{url}/items/1").text
    assert f"{np.linalg.norm(drawn[1]):.6f}" in page
    assert f"{drawn[1][0]:.5f}" in page


def test_results_and_files_are_kept_and_never_shown_as_pages(
    browser: TestClient, sessions: Sessions, blobs: BlobStore
) -> None:
    url = mapped(sessions, blobs)
    lines = browser.get(f"{url}/results.ndjson")
    assert [json.loads(line)["index"] for line in lines.text.splitlines()] == [0, 1, 2]
    for path in ("results.ndjson", "results.parquet", "results.npz", "items/0/outputs/patch"):
        headers = browser.get(f"{url}/{path}").headers
        assert headers["Content-Disposition"].startswith("attachment"), path
        assert headers["X-Content-Type-Options"] == "nosniff", path
    assert browser.get(f"{url}/results.exe").status_code == 404
    stored = next(blobs.folder.rglob("objects/*/*/*"))
    span = {"object": uuid.UUID(stored.name.split(".")[0]).hex, "span": [0, 10]}
    told = {"media_type": "text/html", "size_bytes": 10, "sha256": "0" * 64, "stored": span}
    change(
        sessions,
        "UPDATE results SET payload = payload || CAST(:files AS jsonb) WHERE index = 0",
        files=json.dumps({"files": {"report.html": told}}),
    )
    report = browser.get(f"{url}/files/report.html")
    assert report.headers["Content-Disposition"] == 'attachment; filename="report.html"'
    assert "sandbox" in report.headers["Content-Security-Policy"]
    assert "script-src" not in report.headers["Content-Security-Policy"]
    change(sessions, "UPDATE jobs SET model = 'analysis'")
    assert f'href="{url}/files/report.html" download' in browser.get(url).text


def test_a_job_is_cancelled_tried_again_once_and_deleted_and_the_audit_says_who_and_why(
    browser: TestClient, sessions: Sessions
) -> None:
    held_job = submit_texts(sessions, 2)
    url = f"/admin/jobs/{job_id(held_job)}"
    answer = browser.post(f"{url}/cancel", data={"reason": "wrong labels"})
    assert (answer.status_code, answer.headers["Location"]) == (303, f"{url}?told=job-cancelled")
    assert read(sessions, held_job).state == "cancelled"
    form = {"scope": "failed_items", "once": "a" * 32, "reason": ""}
    first, second = (browser.post(f"{url}/retry", data=form).headers["Location"] for _ in range(2))
    assert first == second
    new = first.removeprefix("/admin/jobs/").partition("?")[0]
    assert new in browser.get(url).text
    assert job_id(held_job) in browser.get(f"/admin/jobs/{new}").text
    assert browser.post(f"{url}/retry", data=form | {"scope": "none"}).status_code == 422
    # what has not ended can be neither deleted nor tried again
    assert browser.post(f"/admin/jobs/{new}/delete", data={}).status_code == 409
    assert browser.post(f"/admin/jobs/{new}/retry", data=form | {"once": "b"}).status_code == 409
    assert (
        browser.post(f"{url}/delete", data={"reason": "tidy"}).headers["Location"].startswith("/admin/jobs?")
    )
    assert browser.get(url).status_code == 410
    assert verbs(sessions) == [
        ("job.cancelled", job_id(held_job), "wrong labels"),
        ("job.retried", job_id(held_job), None),
        ("job.deleted", job_id(held_job), "tidy"),
    ]


def test_a_viewer_sees_no_buttons_and_cannot_act_by_hand(browser: TestClient, sessions: Sessions) -> None:
    job = submit_texts(sessions)
    url = f"/admin/jobs/{job_id(job)}"
    assert f"{url}/cancel" in browser.get(url).text
    as_other(browser, "viewer@example.org")
    page = browser.get(url)
    assert (page.status_code, "/cancel" in page.text) == (200, False)
    for act in ("cancel", "retry", "delete"):
        refused = browser.post(f"{url}/{act}", data={"scope": "all", "once": "a"}, headers=OWN)
        assert refused.status_code == 403, act
    assert read(sessions, job).state == "queued"
    assert verbs(sessions) == []


def test_another_tenants_visitor_sees_nothing_of_it(
    browser: TestClient, sessions: Sessions, blobs: BlobStore
) -> None:
    url = mapped(sessions, blobs)
    unknown = f"/admin/jobs/job_{uuid.uuid4().hex}"
    as_other(browser, "stranger@example.org")
    for path in (
        *("", "/parts", "/items/0", "/items/0/result.json", "/items/0/heatmap.png", "/items/0/thumbnail.jpg"),
        *("/items/0/outputs/patch", "/results.ndjson", "/files/report.html"),
    ):
        answers = [browser.get(f"{job}{path}") for job in (url, unknown)]
        assert [answer.status_code for answer in answers] == [404, 404], path
        assert answers[0].text.replace(url, unknown) == answers[1].text
    for act in ("cancel", "retry", "delete"):
        assert browser.post(f"{url}/{act}", data={"scope": "all", "once": "a"}).status_code == 404, act


def test_of_results_whose_time_is_over_the_page_says_so(browser: TestClient, sessions: Sessions) -> None:
    job = submit_texts(sessions, 2)
    while held := claim(sessions):
        complete(sessions, held, failing=[1])
    change(sessions, "UPDATE jobs SET expires_at = now() - interval '1 second'")
    url = f"/admin/jobs/{job_id(job)}"
    page = browser.get(url).text
    assert "The results were removed" in page
    assert ("failed_items" in page, 'value="all"' in page) == (False, True)
    for path in ("items/0", "items/0/result.json", "results.ndjson"):
        assert browser.get(f"{url}/{path}").status_code == 410, path


def test_pages_of_a_job_are_read_by_index_however_large_it_is(sessions: Sessions) -> None:
    job = submit_texts(sessions)
    change(
        sessions,
        """INSERT INTO results (job_id, index, state, item, payload, error)
           SELECT :job, n, CASE WHEN n % 10000 = 0 THEN 'failed' ELSE 'succeeded' END, '{"kind": "text"}',
                  CASE WHEN n % 10000 <> 0 THEN CAST('{}' AS jsonb) END,
                  CASE WHEN n % 10000 = 0 THEN CAST('{}' AS jsonb) END
           FROM generate_series(1, 100000) AS n""",
        job=job,
    )
    change(
        sessions,
        """INSERT INTO attempts (job_id, unit, attempt, worker_id, lease_token)
           SELECT :job, n, 1, :job, :job FROM generate_series(1, 100000) AS n""",
        job=job,
    )
    change(
        sessions,
        """INSERT INTO jobs (tenant, type, model, options, total, retry_of)
           SELECT tenant, type, model, options, 1, CASE WHEN n % 1000 = 0 THEN :job END
           FROM jobs, generate_series(1, 20000) AS n""",
        job=job,
    )
    change(sessions, "ANALYZE")
    wanted = {
        "pk_results": (job_pages.items_page(job, after=70_000, failed=False, limit=50), "results"),
        "ix_results_failed": (job_pages.items_page(job, after=-1, failed=True, limit=50), "results"),
        "pk_attempts": (job_pages.attempts_page(job, after=(70_000, 1), limit=50), "attempts"),
        "ix_jobs_retry_of": (job_pages.retries_of(TENANT, job), "jobs"),
    }
    for index, (statement, table) in wanted.items():
        compiled = statement.compile(
            dialect=postgresql.dialect(),  # type: ignore[no-untyped-call]  # SQLAlchemy's dialects are untyped
            compile_kwargs={"literal_binds": True},
        )
        with sessions() as session:
            session.execute(text("SET LOCAL jit = off"))
            plan = list(nodes(plan_of(session, str(compiled).replace(":", r"\:"), {})))
        assert index in indexes(plan), index
        assert rows_read(plan, table) <= 51, index
