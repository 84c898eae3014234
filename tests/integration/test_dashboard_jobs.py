"""The list of jobs, and what is done to all that a filter finds."""

import csv
import io
import re
import time

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from api.dashboard.views import jobs as view
from jobs import acting
from models.job import Job
from models.job_action import JobAction
from models.types import Role
from tests.dashboard import SeenBy, add_account, audit_entries, files, once_in, wire
from tests.faults import cancel_job, change
from tests.ledger import MODEL, TENANT, claim, complete, scalar, submit_texts

Sessions = sessionmaker[Session]
EVIL = '<script>alert("1")</script>'


def listed(page: str) -> list[str]:
    """The ids of the rows, from top to bottom."""
    return re.findall(r'<tr id="(job_[0-9a-f]{32})">', page)


def fail(sessions: Sessions) -> None:
    held = claim(sessions)
    assert held is not None
    assert complete(sessions, held, failing=(0,))


def test_jobs_are_found_by_the_filters_in_the_address(seen_by: SeenBy, sessions: Sessions) -> None:
    cancelled, queued, tagged = (submit_texts(sessions) for _ in range(3))
    cancel_job(sessions, cancelled)
    change(sessions, """UPDATE jobs SET tags = '{"set": "A: 1"}' WHERE id = :id""", id=tagged)
    browser = seen_by()
    everything = [wire(tagged), wire(queued), wire(cancelled)]
    found = {
        # what a browser sends of fields that were left empty says nothing
        "?model=&tag=&created_after=&created_before=&type=": everything,
        "?state=cancelled&state=queued": everything,
        "?state=queued": everything[:2],
        "?tag=set:A%3A 1": everything[:1],
        f"?model={MODEL}&type=embedding": everything,
        "?type=logit_lens": [],
        "?created_after=2020-01-01T00:00": everything,
        "?created_before=2020-01-01": [],
        f"?tenant={TENANT}": everything,
        f"?before={wire(queued)}": everything[2:],
    }
    for query, expected in found.items():
        assert listed(browser.get(f"/admin/jobs{query}").text) == expected, query
        assert listed(browser.get(f"/admin/jobs/rows{query}").text) == expected, query
    shown = browser.get("/admin/jobs?state=queued&tag=set:A%3A 1").text
    assert 'value="set:A: 1"' in shown
    assert browser.get("/admin/jobs/count?state=queued").text.strip() == (
        '<strong class="numbers">2</strong> jobs found'
    )
    for query, status in (("?state=done", 422), ("?tag=A", 422), ("?before=x", 404), ("?tenant=%00", 422)):
        assert browser.get(f"/admin/jobs{query}").status_code == status, query


def test_pages_follow_each_other_and_only_the_first_is_live(
    seen_by: SeenBy, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view, "PAGE_JOBS", 2)
    monkeypatch.setattr(view, "COUNTED", 2)
    jobs = [wire(submit_texts(sessions)) for _ in range(3)]
    browser = seen_by()
    first = browser.get("/admin/jobs?state=queued").text
    assert listed(first) == jobs[:0:-1]
    assert 'data-live="jobs"' in first
    assert ">2+<" in browser.get("/admin/jobs/count?state=queued").text
    (older,) = re.findall(r'href="([^"]+)" rel="next"', first)
    second = browser.get(older.replace("&amp;", "&")).text
    assert listed(second) == jobs[:1]
    assert "data-live" not in second
    assert 'rel="next"' not in second


def test_nobody_sees_another_tenants_jobs(seen_by: SeenBy, sessions: Sessions) -> None:
    theirs, other = submit_texts(sessions), submit_texts(sessions, tenant="other")
    operator = seen_by(tenant=None)
    assert listed(operator.get("/admin/jobs").text) == [wire(other), wire(theirs)]
    assert listed(operator.get("/admin/jobs?tenant=other").text) == [wire(other)]
    assert '<option value="tests">' in operator.get("/admin/jobs").text
    browser = seen_by()
    for path in ("/admin/jobs", "/admin/jobs/rows", "/admin/jobs.csv"):
        assert wire(theirs) in browser.get(path).text
        assert "other" not in browser.get(path).text
        assert browser.get(f"{path}?tenant=other").status_code == 404
    assert browser.get("/admin/jobs/act?verb=cancel&state=queued&tenant=other").status_code == 404


def test_what_users_wrote_is_text_and_no_formula(seen_by: SeenBy, sessions: Sessions) -> None:
    job_id = submit_texts(sessions)
    change(
        sessions,
        "UPDATE jobs SET tags = jsonb_build_object(CAST(:evil AS text), CAST(:evil AS text)), model = '=1+1'",
        evil=EVIL,
    )
    browser = seen_by()
    assert EVIL not in browser.get("/admin/jobs").text
    assert EVIL not in browser.get("/admin/jobs", params={"tag": f"a:{EVIL}"}).text
    answer = browser.get("/admin/jobs.csv")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="jobs.csv"'
    (row,) = csv.DictReader(io.StringIO(answer.text))
    assert (row["id"], row["model"], row["total"]) == (wire(job_id), "'=1+1", "1")


def ended(browser: TestClient, link: str) -> str:
    until = time.monotonic() + 30
    while "> running</span>" in (shown := browser.get(link).raise_for_status().text):
        assert time.monotonic() < until
        time.sleep(0.05)
    return shown


def test_all_that_a_filter_finds_are_tried_again_when_that_is_confirmed(
    seen_by: SeenBy, sessions: Sessions
) -> None:
    for _ in range(2):
        submit_texts(sessions)
        fail(sessions)
    submit_texts(sessions)
    browser = seen_by()
    here = "/admin/jobs/act?verb=retry&state=failed"
    assert here.replace("&", "&amp;") in browser.get("/admin/jobs?state=failed").text
    asked = browser.get(here).text
    assert "<code>retry 2</code>" in asked
    once = once_in(asked)
    for typed, status in (("", 422), ("retry", 422), ("cancel 2", 422), ("retry 3", 409)):
        again = browser.post(here, data={"once": once, "typed": typed, "reason": EVIL})
        assert (again.status_code, "<code>retry 2</code>" in again.text) == (status, True), typed
        assert EVIL not in again.text
    assert audit_entries(sessions) == []
    assert scalar(sessions, "SELECT count(*) FROM job_actions") == 0
    accepted = browser.post(here, data={"once": once, "typed": " Retry 2", "reason": "a new model"})
    link, _, told = accepted.headers["Location"].partition("?")
    assert (accepted.status_code, told) == (303, "told=action-accepted")
    shown = ended(browser, link)
    assert "a new model" in shown
    assert ended(browser, f"{link}/progress").startswith('<section class="card" id="action">')
    (entry,) = audit_entries(sessions)
    assert (entry.verb, entry.target, entry.tenant) == ("jobs.retried", link.rpartition("/")[2], TENANT)
    assert (entry.filter, entry.matched, entry.reason) == ({"state": ["failed"]}, 2, "a new model")
    assert entry.actor == f"operator-{TENANT}@example.org"
    with sessions() as session:
        action = session.scalars(select(JobAction)).one()
        # nobody's key: it is an account's wish
        assert (action.done, action.skipped, action.key_id) == (2, 0, None)
        assert len(session.scalars(select(Job).where(Job.retry_of.is_not(None))).all()) == 2
    other = seen_by(tenant="other")
    for path in (link, f"{link}/progress"):
        assert other.get(path).status_code == 404


def test_an_action_is_about_the_jobs_of_one_tenant_and_never_all_of_them(
    seen_by: SeenBy, sessions: Sessions
) -> None:
    for tenant in (TENANT, "other"):
        submit_texts(sessions, tenant=tenant)
    operator = seen_by(tenant=None)
    # where there is one, nobody has to say which
    alone = operator.get("/admin/jobs?state=queued").text
    assert f'/admin/jobs/act?verb=cancel&amp;tenant={TENANT}&amp;state=queued"' in alone
    add_account(sessions, "somebody@example.org", tenant="other")
    assert "name a tenant" in operator.get("/admin/jobs?state=queued").text
    data = {"typed": "cancel 1", "once": "a"}
    for query in ("verb=cancel&state=queued", f"verb=cancel&tenant={TENANT}"):
        assert operator.get(f"/admin/jobs/act?{query}").status_code == 422
        assert operator.post(f"/admin/jobs/act?{query}", data=data).status_code == 422
    accepted = operator.post(f"/admin/jobs/act?verb=cancel&state=queued&tenant={TENANT}", data=data)
    ended(operator, accepted.headers["Location"])
    assert audit_entries(sessions)[0].tenant == TENANT
    assert scalar(sessions, "SELECT count(*) FROM jobs WHERE state = 'queued' AND tenant = 'other'") == 1


def test_a_confirmation_that_is_sent_twice_is_acted_upon_once(seen_by: SeenBy, sessions: Sessions) -> None:
    for _ in range(2):
        submit_texts(sessions)
        fail(sessions)
    browser = seen_by()
    here = "/admin/jobs/act?verb=retry&state=failed"
    form = {"once": once_in(browser.get(here).text), "typed": "retry 2", "reason": "a new model"}
    first, second = (browser.post(here, data=form) for _ in range(2))
    # nor for another reason: it is the same page
    third = browser.post(here, data=form | {"reason": "a better one"})
    assert first.status_code == 303
    assert first.headers["Location"] == second.headers["Location"] == third.headers["Location"]
    assert scalar(sessions, "SELECT count(*) FROM job_actions") == 1
    assert [entry.verb for entry in audit_entries(sessions)] == ["jobs.retried"]
    ended(browser, first.headers["Location"])
    # the page of another time is about another action, and one that says none is refused
    again = browser.post(here, data=form | {"once": once_in(browser.get(here).text)})
    assert again.headers["Location"] != first.headers["Location"]
    assert browser.post(here, data={"typed": "retry 2"}).status_code == 422
    assert scalar(sessions, "SELECT count(*) FROM job_actions") == 2


def test_what_is_being_done_stands_above_the_list(
    seen_by: SeenBy, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    # none is begun: an action without jobs would be over at once
    monkeypatch.setattr(acting, "BEGIN_SECONDS", -1)
    browser = seen_by()
    change(
        sessions,
        """INSERT INTO job_actions (tenant, verb, filter, matched, up_to)
           VALUES ('other', 'retry', '{}', 7, uuidv7()), (:tenant, 'retry', '{}', 9, uuidv7())""",
        tenant=TENANT,
    )
    shown = browser.get("/admin/jobs/rows").text
    assert "Try again 9 jobs" in shown
    assert "Try again 7 jobs" not in shown


def test_a_viewer_looks_and_cannot_act(seen_by: SeenBy, sessions: Sessions, picture: bytes) -> None:
    submit_texts(sessions)
    viewer = seen_by(Role.VIEWER)
    shown = viewer.get("/admin/jobs?state=queued").text
    assert "/admin/jobs/act" not in shown
    assert "/admin/jobs/new" not in shown
    assert viewer.get("/admin/jobs/act?verb=cancel&state=queued").status_code == 403
    assert viewer.get("/admin/jobs/new").status_code == 403
    typed = {"typed": "cancel 1"}
    assert viewer.post("/admin/jobs/act?verb=cancel&state=queued", data=typed).status_code == 403
    assert viewer.post("/admin/jobs/new", data={"type": "embedding"}, files=files(picture)).status_code == 403
    assert scalar(sessions, "SELECT count(*) FROM jobs") == 1
    assert scalar(sessions, "SELECT count(*) FROM job_actions") == 0
