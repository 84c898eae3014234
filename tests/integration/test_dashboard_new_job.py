"""The form of a new job."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from models.job import Job, JobInput
from models.types import Role
from tests.dashboard import OWN, SeenBy, add_account, audit_entries, files, once_in, wire
from tests.ledger import MODEL, TENANT, scalar

Sessions = sessionmaker[Session]
LENS = {
    "once": "a",
    "type": "logit_lens",
    "model": MODEL,
    "labels": "a ring\r\n\r\n a star ",
    "template": "A {}.",
    "heatmaps": "all",
    "tags": "set: A",
}


def test_a_job_is_submitted_by_the_form_as_by_the_api(
    seen_by: SeenBy, sessions: Sessions, picture: bytes
) -> None:
    browser = seen_by()
    assert f"<option selected>{MODEL}</option>" in browser.get("/admin/jobs/new").text
    sent = browser.post("/admin/jobs/new", data=LENS, files=files(picture, name="<b>.jpg"))
    assert sent.status_code == 303
    with sessions() as session:
        job = session.scalars(select(Job)).one()
        items = session.scalars(select(JobInput)).one().items
    assert sent.headers["Location"] == f"/admin/jobs/{wire(job.id)}?told=job-submitted"
    assert (job.tenant, job.key_id, job.tags, job.total) == (TENANT, None, {"set": "A"}, 1)
    assert job.options["labels"] == ["a ring", "a star"]
    assert (job.options["template"], job.options["outputs"]) == ("A {}.", ["pooled", "patch"])
    assert [item["custom_id"] for item in items] == ["<b>.jpg"]
    (entry,) = audit_entries(sessions)
    assert (entry.verb, entry.target, entry.tenant) == ("job.submitted", wire(job.id), TENANT)


def test_a_form_that_is_sent_twice_submits_one_job(
    seen_by: SeenBy, sessions: Sessions, picture: bytes
) -> None:
    browser = seen_by()
    form = LENS | {"once": once_in(browser.get("/admin/jobs/new").text)}

    def send(**changes: str) -> str:
        answer = browser.post("/admin/jobs/new", data=form | changes, files=files(picture))
        assert answer.status_code == 303
        return answer.headers["Location"]

    assert send() == (first := send())
    assert scalar(sessions, "SELECT count(*) FROM jobs") == 1
    assert [entry.verb for entry in audit_entries(sessions)] == ["job.submitted"]
    # whoever goes back and asks for something else gets it; what a refusal shows is another page
    assert send(labels="a star") != first
    refused = browser.post("/admin/jobs/new", data=form | {"labels": ""}, files=files(picture))
    assert once_in(refused.text) != form["once"]
    assert scalar(sessions, "SELECT count(*) FROM jobs") == 2


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"once": ""}, "once"),
        ({"labels": " "}, "Give at least one label, one a line"),
        ({"labels": "a\na"}, "a"),
        ({"template": "no place"}, "template"),
        ({"model": "google/nothing"}, "Unknown model"),
        ({"heatmaps": "many"}, "no such heatmaps"),
        ({"tags": "A"}, "name:value"),
        ({"type": "rescore"}, "input"),
        ({"type": "nothing"}, "type"),
    ],
)
def test_a_form_that_is_refused_is_shown_again_with_what_it_said(
    seen_by: SeenBy, sessions: Sessions, picture: bytes, changes: dict[str, str], told: str
) -> None:
    answer = seen_by().post("/admin/jobs/new", data=LENS | changes, files=files(picture))
    assert answer.status_code == 422
    (said,) = re.findall(r'role="alert" id="error">(.*?)</p>', answer.text, re.DOTALL)
    assert told in said
    assert (LENS | changes)["tags"] in answer.text
    assert scalar(sessions, "SELECT count(*) FROM jobs") == 0
    assert audit_entries(sessions) == []


def test_a_form_without_pictures_is_refused_and_embeddings_need_no_labels(
    seen_by: SeenBy, sessions: Sessions, picture: bytes
) -> None:
    browser = seen_by()
    nothing_chosen = [("images", ("", b"", "application/octet-stream"))]
    assert browser.post("/admin/jobs/new", data=LENS, files=nothing_chosen).status_code == 422
    data = {
        "once": "b",
        "type": "embedding",
        "model": MODEL,
        "labels": "a ring",
        "template": "",
        "heatmaps": "none",
    }
    assert browser.post("/admin/jobs/new", data=data, files=files(picture, picture)).status_code == 303
    assert scalar(sessions, "SELECT type || total FROM jobs") == "embedding2"
    assert browser.post("/admin/jobs/new", data=data).status_code == 415


def test_whoever_sees_all_tenants_says_whose_job_it_is(
    seen_by: SeenBy, sessions: Sessions, picture: bytes
) -> None:
    operator = seen_by(tenant=None)
    assert f'action="/admin/jobs/new?tenant={TENANT}"' in operator.get("/admin/jobs/new").text
    add_account(sessions, "somebody@example.org", tenant="other")
    assert 'name="tenant"' in operator.get("/admin/jobs/new").text
    shown = operator.get(f"/admin/jobs/new?tenant={TENANT}").text
    (action,) = re.findall(r'action="(/admin/jobs/new[^"]*)"', shown)
    assert parse_qs(urlsplit(action).query) == {"tenant": [TENANT]}
    for query in ("", "?tenant=nobody"):
        assert operator.post(f"/admin/jobs/new{query}", data=LENS, files=files(picture)).status_code == 422
    assert operator.post(action, data=LENS, files=files(picture)).status_code == 303
    assert scalar(sessions, "SELECT tenant FROM jobs") == TENANT
    browser = seen_by()
    assert browser.post("/admin/jobs/new?tenant=other", data=LENS, files=files(picture)).status_code == 404


def test_nothing_of_a_body_is_read_before_it_is_known_who_sends_it(
    service: TestClient, seen_by: SeenBy
) -> None:
    headers = {**OWN, "Content-Type": "multipart/form-data; boundary=x", "Content-Length": str(2**40)}

    def send(query: str = "") -> int:
        return service.post(f"/admin/jobs/new{query}", content=b"", headers=headers).status_code

    # it is larger than any body may be, which whoever begins to read it is told
    assert send() == 401
    seen_by(Role.VIEWER)
    assert send() == 403
    seen_by(tenant=None)
    assert send() == 422
    assert send(f"?tenant={TENANT}") == 413
