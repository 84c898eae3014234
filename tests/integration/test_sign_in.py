"""Signing in to the dashboard, who may, and what browsers are told."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, sessionmaker

from api.app import create_app
from api.dashboard.security import COOKIE
from api.settings import ApiSettings
from jobs.accounts import change_password, hash_password, open_session
from jobs.errors import InvalidRequestError, SignInRefusedError
from models.account import Account, AccountSession
from models.audit import AuditEntry
from models.session import POOL_SIZE
from models.types import Role
from tests.dashboard import OWN, PASSWORD, add_account, sign_in

EMAIL = "ada@example.org"


@pytest.fixture
def browser(settings: ApiSettings, sessions: sessionmaker[Session]) -> Iterator[TestClient]:
    add_account(sessions, EMAIL, Role.ADMIN)
    with TestClient(create_app(settings), base_url="https://testserver") as client:
        client.follow_redirects = False
        yield client


def _try(browser: TestClient, email: str, password: str, **headers: str) -> int:
    data = {"email": email, "password": password}
    return browser.post("/admin/sign-in", data=data, headers=headers or OWN).status_code


def test_pages_lead_to_the_sign_in_and_from_there_to_the_page_that_was_asked_for(browser: TestClient) -> None:
    answer = browser.get("/admin/account?a=b")
    assert (answer.status_code, answer.headers["Location"]) == (
        303,
        "/admin/sign-in?next=/admin/account%3Fa%3Db",
    )
    form = browser.get(answer.headers["Location"])
    assert 'value="/admin/account?a=b"' in form.text
    data = {"email": f" {EMAIL.upper()} ", "password": PASSWORD, "next": "/admin/account?a=b"}
    signed_in = browser.post("/admin/sign-in", data=data, headers=OWN)
    assert (signed_in.status_code, signed_in.headers["Location"]) == (303, "/admin/account?a=b")
    assert EMAIL in browser.get("/admin/account").text


@pytest.mark.parametrize(
    "wanted", ["https://evil.example", "//evil.example", "/admin/..\\evil", "/v1/jobs", "javascript:alert(1)"]
)
def test_no_link_leads_elsewhere_by_way_of_the_sign_in(browser: TestClient, wanted: str) -> None:
    data = {"email": EMAIL, "password": PASSWORD, "next": wanted}
    assert browser.post("/admin/sign-in", data=data, headers=OWN).headers["Location"] == "/admin/"


def test_the_cookie_is_for_this_host_alone_and_out_of_reach_of_scripts(
    browser: TestClient, sessions: sessionmaker[Session]
) -> None:
    data = {"email": EMAIL, "password": PASSWORD}
    said = browser.post("/admin/sign-in", data=data, headers=OWN).headers["Set-Cookie"]
    assert said.startswith(f"{COOKIE}=")
    for attribute in ("Secure", "HttpOnly", "SameSite=lax", "Path=/"):
        assert attribute in said
    assert "Domain" not in said
    with sessions() as session:
        kept = session.scalars(select(AccountSession)).one()
    assert kept.sha256 not in said


def test_a_wrong_password_and_an_unknown_address_are_told_alike(browser: TestClient) -> None:
    texts = []
    for email, password in ((EMAIL, "wrong horse battery"), ("nobody@example.org", PASSWORD)):
        answer = browser.post("/admin/sign-in", data={"email": email, "password": password}, headers=OWN)
        assert answer.status_code == 422
        texts.append(answer.text)
    assert texts[0] == texts[1]
    assert COOKIE not in browser.cookies


def test_passwords_cannot_be_tried_out(browser: TestClient) -> None:
    assert [_try(browser, EMAIL, f"wrong password {i}") for i in range(6)] == [422] * 5 + [429]
    # the right one has to wait too, others need not
    assert _try(browser, EMAIL, PASSWORD) == 429
    assert _try(browser, "other@example.org", PASSWORD) == 422


def test_a_disabled_account_and_an_ended_session_see_nothing(
    browser: TestClient, sessions: sessionmaker[Session]
) -> None:
    sign_in(browser, EMAIL)
    assert browser.get("/admin/account").status_code == 200
    with sessions.begin() as session:
        session.scalars(select(Account)).one().disabled_at = session.scalars(select(Account)).one().created_at
    assert browser.get("/admin/account").status_code == 303
    assert _try(browser, EMAIL, PASSWORD) == 422


def test_signing_out_ends_the_session_for_whoever_kept_its_token(browser: TestClient) -> None:
    sign_in(browser, EMAIL)
    token = browser.cookies[COOKIE]
    assert browser.post("/admin/sign-out").status_code == 303
    assert COOKIE not in browser.cookies
    assert browser.get("/admin/account", headers={"Cookie": f"{COOKIE}={token}"}).status_code == 303


def test_another_browser_can_be_signed_out_and_a_password_changed(
    browser: TestClient, sessions: sessionmaker[Session]
) -> None:
    sign_in(browser, EMAIL)
    with sessions() as session:
        first = session.scalars(select(AccountSession.id)).one()
    browser.cookies.clear()
    sign_in(browser, EMAIL)
    assert browser.post(f"/admin/account/sessions/{first}/end").status_code == 303
    with sessions() as session:
        assert (
            len(session.scalars(select(AccountSession).where(AccountSession.revoked_at.is_(None))).all()) == 1
        )
    fields = {"password": "wrong horse battery", "new_password": "a better horse battery"}
    assert browser.post("/admin/account/password", data=fields).status_code == 422
    fields["password"] = PASSWORD
    assert (
        browser.post("/admin/account/password", data=fields).headers["Location"].startswith("/admin/sign-in")
    )
    assert browser.get("/admin/account").status_code == 303
    assert _try(browser, EMAIL, fields["new_password"]) == 303
    with sessions() as session:
        verbs = session.scalars(select(AuditEntry.verb).order_by(AuditEntry.id)).all()
    assert verbs == [
        "account.signed_in",
        "account.signed_in",
        "account.password_changed",
        "account.signed_in",
    ]


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://testserver"},
        {},
    ],
)
def test_forms_of_other_sites_are_not_heard(browser: TestClient, headers: dict[str, str]) -> None:
    sign_in(browser, EMAIL)
    del browser.headers["Sec-Fetch-Site"]
    assert browser.post("/admin/sign-out", headers=headers).status_code == 403
    assert browser.get("/admin/account").status_code == 200
    assert browser.post("/admin/sign-out", headers={"Origin": "https://testserver"}).status_code == 303


@pytest.mark.parametrize("path", ["/admin/sign-in", "/admin/static/dashboard.css", "/admin/nothing"])
def test_every_answer_forbids_what_a_page_does_not_need(browser: TestClient, path: str) -> None:
    headers = browser.get(path).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"


def test_what_a_page_is_told_in_its_address_is_not_shown(browser: TestClient) -> None:
    sign_in(browser, EMAIL)
    assert "evil" not in browser.get("/admin/account?told=evil").text
    assert "The session is ended." in browser.get("/admin/account?told=session-ended").text


@pytest.mark.parametrize("body", [b"\xff\xfe", b"email=a%00b&password=x", b"email=" + b"a" * 2_000_000])
def test_forms_that_are_none_are_refused(browser: TestClient, body: bytes) -> None:
    headers = {**OWN, "Content-Type": "application/x-www-form-urlencoded"}
    assert browser.post("/admin/sign-in", content=body, headers=headers).status_code == 422


def test_a_form_that_does_not_say_how_long_it_is_is_given_up(browser: TestClient) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"email="
        for _ in range(40):
            yield b"a" * 65_536

    headers = {**OWN, "Content-Type": "application/x-www-form-urlencoded"}
    assert browser.post("/admin/sign-in", content=pieces(), headers=headers).status_code == 413


def test_a_password_that_was_changed_meanwhile_opens_nothing(sessions: sessionmaker[Session]) -> None:
    add_account(sessions, EMAIL)
    with sessions() as session:
        verified = session.scalars(select(Account)).one()
    with sessions.begin() as session:
        change_password(session, verified.id, hash_password("a better horse battery"))
    with sessions.begin() as session, pytest.raises(SignInRefusedError):
        open_session(session, verified, timedelta(hours=1), "")


@pytest.mark.parametrize("tenant", ["", "  "])
def test_no_account_is_of_all_tenants_by_accident(sessions: sessionmaker[Session], tenant: str) -> None:
    with pytest.raises(InvalidRequestError):
        add_account(sessions, EMAIL, tenant=tenant)


def test_whoever_looks_waits_for_no_writer(browser: TestClient, settings: ApiSettings) -> None:
    sign_in(browser, EMAIL)
    services = browser.app.state.services  # type: ignore[attr-defined]
    assert browser.portal is not None

    async def hold_all() -> list[AsyncSession]:
        held = [services.sessions() for _ in range(POOL_SIZE)]
        for session in held:
            await session.execute(text("SELECT 1"))
        return held

    async def let_go(held: list[AsyncSession]) -> None:
        for session in held:
            await session.close()

    held = browser.portal.call(hold_all)
    try:
        assert browser.get("/admin/account").status_code == 200
    finally:
        browser.portal.call(let_go, held)
