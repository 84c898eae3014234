"""The audit in the dashboard: what was done, by whom, to whose things, as a page and as a sheet."""

import csv
import io
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from api.app import create_app
from api.dashboard.addresses import PAGE
from api.dashboard.views import audit as view
from api.settings import ApiSettings
from jobs import audit
from jobs.audit import Actor
from models.account import Account
from models.types import Role
from tests.dashboard import add_account, sign_in
from tests.ledger import TENANT

Sessions = sessionmaker[Session]
HERE = "/admin/audit"
ADA, VIEWER = "ada@example.org", "viewer@example.org"
FORMULA = '=HYPERLINK("https://evil.example")'
MARKUP = "<script>alert(1)</script>"


@pytest.fixture
def browser(settings: ApiSettings, sessions: Sessions) -> Iterator[TestClient]:
    add_account(sessions, ADA)
    add_account(sessions, VIEWER, Role.VIEWER, TENANT)
    with TestClient(create_app(settings), base_url="https://testserver") as client:
        yield client


def do(sessions: Sessions, email: str, target: str, tenant: str | None = TENANT, reason: str = "") -> None:
    with sessions.begin() as session:
        account = session.scalars(select(Account).where(Account.email == email)).one()
        wanted = {"state": ["failed"], "tags": {"run": MARKUP}}
        actor = Actor(email, account.id)
        audit.note(
            session, actor, "jobs.retried", target, tenant=tenant, reason=reason, filter=wanted, matched=1_234
        )


def test_it_says_who_did_what_to_which_and_why(browser: TestClient, sessions: Sessions) -> None:
    do(sessions, ADA, "act_1", reason=MARKUP)
    sign_in(browser, ADA)
    for path in (HERE, f"{HERE}/rows"):
        shown = browser.get(path).text
        for said in (ADA, "jobs.retried", "act_1", "1,234", "failed", "&lt;script&gt;"):
            assert said in shown
        assert MARKUP not in shown


def test_it_is_filtered_by_account_and_by_what_the_visitor_sees(
    browser: TestClient, sessions: Sessions
) -> None:
    do(sessions, ADA, "act_ours")
    do(sessions, ADA, "act_others", "other")
    do(sessions, ADA, "act_everybodys", None)
    do(sessions, VIEWER, "act_viewers")
    sign_in(browser, ADA)
    shown = browser.get(HERE, params={"account": ADA}).text
    assert [f"act_{whose}" in shown for whose in ("ours", "others", "everybodys", "viewers")] == [
        True
    ] * 3 + [False]
    sign_in(browser, VIEWER)
    for path in (HERE, f"{HERE}/rows", f"{HERE}.csv"):
        shown = browser.get(path).text
        assert "act_ours" in shown
        assert "act_viewers" in shown
        assert "act_others" not in shown
        assert "act_everybodys" not in shown
    # whether somebody has an account is not told
    unknown, known = ("nobody@example.org", "third@example.org")
    add_account(sessions, known, Role.ADMIN, "other")
    pages = [
        browser.get(HERE, params={"account": email}).text.replace(email, "") for email in (unknown, known)
    ]
    assert pages[0].replace("nobody%40example.org", "") == pages[1].replace("third%40example.org", "")


def test_the_sheet_has_all_of_it_and_runs_nothing(
    browser: TestClient, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view, "ENTRIES_AT_ONCE", 2)
    for place in range(5):
        do(sessions, VIEWER, f"act_{place}", reason=FORMULA)
    sign_in(browser, ADA)
    answer = browser.get(f"{HERE}.csv", params={"account": VIEWER})
    assert answer.headers["Content-Type"].startswith("text/csv")
    assert "attachment" in answer.headers["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["target"] for row in rows] == [f"act_{place}" for place in (4, 3, 2, 1, 0)]
    assert {row["reason"] for row in rows} == {f"'{FORMULA}"}
    assert browser.get(f"{HERE}.csv?account=nobody@example.org").text.count("\n") == 1


def test_it_is_paged(browser: TestClient, sessions: Sessions) -> None:
    for place in range(PAGE + 1):
        do(sessions, VIEWER, f"act_{place}.")
    sign_in(browser, ADA)
    first = browser.get(HERE, params={"account": VIEWER}).text
    assert "act_0." not in first
    following = first.rpartition(f'href="{HERE}?')[2].partition('"')[0].replace("&amp;", "&")
    assert "act_0." in browser.get(f"{HERE}?{following}").text
