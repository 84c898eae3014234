"""Image sets in the dashboard: shown, sealed and deleted, and nobody else's."""

import json
import uuid
from collections.abc import Iterator

import numpy as np
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session, sessionmaker

from api.app import create_app
from api.dashboard.addresses import PAGE
from api.schemas import ids
from api.settings import ApiSettings
from jobs.adding import NewItem, add_items
from jobs.blobs import BlobStore
from jobs.image_sets import create_set, jobs_over
from models.image import Image
from models.image_set import ImageSet, ImageSetVersion
from models.types import Role
from tests.dashboard import add_account, audited, sign_in
from tests.faults import change
from tests.integration.test_plans import indexes, nodes, plan_of, rows_read
from tests.ledger import TENANT, submit_texts
from tests.mapped import GRID, finish_mapped

Sessions = sessionmaker[Session]
HERE = "/admin/sets"
ADA, VIEWER, OTHER = "ada@example.org", "viewer@example.org", "other@example.org"
MARKUP = '<img src=x onerror="alert(1)">'
ESCAPED = "&lt;img src=x onerror=&#34;alert(1)&#34;&gt;"
TORN = {"code": "image-truncated", "message": f"torn {MARKUP}", "retryable": False}


@pytest.fixture
def browser(settings: ApiSettings, sessions: Sessions) -> Iterator[TestClient]:
    add_account(sessions, ADA)
    add_account(sessions, VIEWER, Role.VIEWER, TENANT)
    add_account(sessions, OTHER, Role.ADMIN, "other")
    with TestClient(create_app(settings), base_url="https://testserver") as client:
        yield client


def fill(sessions: Sessions, images: int = 1, failed: int = 1) -> uuid.UUID:
    """A set with pictures and with files that are none, whose words would be markup."""
    with sessions.begin() as session:
        pictures = [
            Image(tenant=TENANT, sha256=f"{place:064}", image_bytes=2048, media_type="image/png")
            for place in range(images)
        ]
        session.add_all(pictures)
        session.flush()
        made = create_set(session, TENANT, f"shapes {MARKUP}", notes=MARKUP)
        items = [
            *(NewItem(picture.id, f"{place}.png", MARKUP) for place, picture in enumerate(pictures)),
            *(NewItem(None, f"torn {place} {MARKUP}", error=TORN) for place in range(failed)),
        ]
        add_items(session, TENANT, made.id, items, 1_000)
        return made.id


def last_version(sessions: Sessions, set_id: uuid.UUID) -> ImageSetVersion:
    with sessions() as session:
        return session.scalars(select(ImageSetVersion).where(ImageSetVersion.set_id == set_id)).one()


def test_a_set_is_shown_with_its_versions_items_failures_and_jobs(
    browser: TestClient, sessions: Sessions
) -> None:
    sign_in(browser, VIEWER)
    assert "lensqueue sets create" in browser.get(HERE).text
    set_id = fill(sessions, images=PAGE, failed=2)
    here = f"{HERE}/{ids.set_id(set_id)}"
    version = last_version(sessions, set_id)
    job_id = submit_texts(sessions)
    change(sessions, "UPDATE jobs SET version_id = :version", version=version.id)
    listed = browser.get(HERE).text
    assert here in listed
    assert listed.count('id="ims_') == 1
    shown = browser.get(here).text
    assert ids.job_id(job_id) in shown
    assert f">{ids.version_id(version.id)}</code>" in shown
    assert "49.png" in shown
    assert "torn 0" not in shown
    for part in (f"{HERE}/rows", f"{here}/news"):
        answer = browser.get(part)
        assert answer.status_code == 200
        assert "<html" not in answer.text
    failed = browser.get(here, params={"version": 1, "show": "failed"}).text
    assert "image-truncated" in failed
    assert "0.png" not in failed
    for page in (listed, shown, failed):
        assert ESCAPED in page
        assert "<img src=x" not in page
    for refused in (f"{here}?version=7", f"{HERE}/ims_{'0' * 32}", f"{HERE}/x"):
        assert browser.get(refused).status_code == 404


def test_a_job_over_a_set_says_of_which_one_and_writes_ids_as_the_api_does(
    browser: TestClient, sessions: Sessions
) -> None:
    sign_in(browser, VIEWER)
    version = last_version(sessions, fill(sessions))
    job = ids.job_id(submit_texts(sessions))
    beside = uuid.uuid4()
    options = {
        "version": {"id": str(version.id), "items": 2, "manifest_sha256": "0" * 64},
        "version_id": str(version.id),
        "set_id": str(version.set_id),
        "reference_job_id": str(beside),
        "other_job_id": None,
        "outputs": ["pooled"],
        "patch_layers": {"every": 3},
        "patch_method": "head",
    }
    told = "UPDATE jobs SET options = CAST(:options AS jsonb), version_id = :version"
    change(sessions, told, options=json.dumps(options), version=version.id)
    shown = browser.get(f"/admin/jobs/{job}").text
    here = f"{HERE}/{ids.set_id(version.set_id)}"
    assert f'<a href="{here}?version=1">version 1 of shapes {ESCAPED}, 2 items</a>' in shown
    assert f'<a href="{here}">{ids.set_id(version.set_id)}</a>' in shown
    assert f'<a href="/admin/jobs/{ids.job_id(beside)}">{ids.job_id(beside)}</a>' in shown
    assert ids.version_id(version.id) in shown
    assert "every 3rd, and the last" in shown
    for hidden in (str(version.id), str(beside), "patch method", "{&#34;"):
        assert hidden not in shown
    # its set is gone: the id is all that is known
    change(sessions, "UPDATE jobs SET version_id = NULL")
    assert f"{ids.version_id(version.id)}, 2 items" in browser.get(f"/admin/jobs/{job}").text


def test_an_item_of_a_lens_over_a_set_says_what_it_is(
    browser: TestClient, sessions: Sessions, blobs: BlobStore
) -> None:
    sign_in(browser, VIEWER)
    version = last_version(sessions, fill(sessions))
    job = finish_mapped(sessions, blobs, np.zeros((2, 2, *GRID), np.float32))
    shown = f"/admin/jobs/{ids.job_id(job)}/items/"
    assert "True label" not in browser.get(f"{shown}0").text
    change(sessions, "UPDATE jobs SET version_id = :version", version=version.id)
    assert f'title="{ESCAPED}">{ESCAPED}</span>' in browser.get(f"{shown}0").text
    # the second of the set is none; of a retry it is counted as it was at first
    assert "True label" not in browser.get(f"{shown}1").text
    change(sessions, """UPDATE results SET item = item || '{"first_index": 0}'""")
    assert "True label" in browser.get(f"{shown}1").text


def test_items_are_paged_by_their_index(browser: TestClient, sessions: Sessions) -> None:
    here = f"{HERE}/{ids.set_id(fill(sessions, images=PAGE + 1, failed=0))}"
    sign_in(browser, VIEWER)
    first = browser.get(here).text
    assert (f"{PAGE - 1}.png" in first, f"{PAGE}.png" in first) == (True, False)
    *_, following = [part.partition('"')[0] for part in first.split(f'href="{here}?')]
    second = browser.get(f"{here}?{following.replace('&amp;', '&')}").text
    assert (f"{PAGE - 1}.png" in second, f"{PAGE}.png" in second) == (False, True)
    assert 'rel="next"' not in second
    assert browser.get(here, params={"page_token": "nonsense!"}).status_code == 422


def test_who_acts_seals_and_deletes_a_set_and_it_is_written_down(
    browser: TestClient, sessions: Sessions
) -> None:
    set_id = fill(sessions)
    wire_id = ids.set_id(set_id)
    here = f"{HERE}/{wire_id}"
    for email, status in ((VIEWER, 403), (OTHER, 404)):
        sign_in(browser, email)
        assert [browser.post(f"{here}/{act}").status_code for act in ("seal", "delete")] == [status] * 2
        assert f"{here}/seal" not in browser.get(here).text
    assert browser.get(here).status_code == 404
    assert wire_id not in browser.get(HERE).text
    assert audited(sessions) == []
    sign_in(browser, ADA)
    assert f'action="{here}/seal"' in browser.get(here).text
    assert browser.post(f"{here}/seal", data={"reason": "complete"}).headers["Location"].startswith(here)
    assert last_version(sessions, set_id).sealed_at is not None
    assert f'action="{here}/seal"' not in browser.get(here).text
    assert browser.post(f"{here}/delete").headers["Location"] == f"{HERE}?told=set-deleted"
    with sessions() as session:
        assert session.get_one(ImageSet, set_id).deleted_at is not None
    assert browser.get(here).status_code == 404
    assert audited(sessions) == [
        (ADA, "set.sealed", f"{wire_id} version 1", TENANT, "complete"),
        (ADA, "set.deleted", wire_id, TENANT, None),
    ]


def test_an_empty_set_is_not_sealed(browser: TestClient, sessions: Sessions) -> None:
    here = f"{HERE}/{ids.set_id(fill(sessions, images=0))}"
    sign_in(browser, ADA)
    refused = browser.post(f"{here}/seal")
    assert (refused.status_code, "empty-set" in refused.text) == (409, True)
    assert audited(sessions) == []


def test_the_newest_jobs_over_a_version_are_found_by_the_index(sessions: Sessions) -> None:
    version_ids = [uuid.UUID(int=place) for place in range(2)]
    job_id = submit_texts(sessions)
    change(
        sessions,
        """INSERT INTO jobs (id, tenant, type, model, options, total, version_id)
           SELECT gen_random_uuid(), tenant, type, model, options, total, :version
           FROM jobs, generate_series(1, 20000) WHERE jobs.id = :job""",
        job=job_id,
        version=version_ids[0],
    )
    change(sessions, "ANALYZE jobs")
    statement = jobs_over(version_ids, 20).compile(
        dialect=postgresql.dialect(),  # type: ignore[no-untyped-call]  # SQLAlchemy's dialects are untyped
        compile_kwargs={"literal_binds": True},
    )
    with sessions() as session:
        plan = list(nodes(plan_of(session, str(statement), {})))
    assert "ix_jobs_version_id" in indexes(plan)
    assert rows_read(plan, "jobs") <= 100
