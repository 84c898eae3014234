"""Accounts in the dashboard: made, disabled, enabled and given passwords, within one's own tenant."""

import uuid
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from api.app import create_app
from api.settings import ApiSettings
from models.account import Account
from models.types import Role
from tests.dashboard import OWN, PASSWORD, add_account, audited, sign_in

Sessions = sessionmaker[Session]
HERE = "/admin/accounts"
ADA, RED, VIEWER = "ada@example.org", "red@example.org", "viewer@example.org"
NEW = {"email": "New@Example.org", "role": "operator", "tenant": "", "password": "another horse battery"}


@pytest.fixture
def browser(settings: ApiSettings, sessions: Sessions) -> Iterator[TestClient]:
    add_account(sessions, ADA)
    add_account(sessions, RED, Role.ADMIN, "red")
    add_account(sessions, VIEWER, Role.VIEWER)
    with TestClient(create_app(settings), base_url="https://testserver") as client:
        yield client


def find(sessions: Sessions, email: str) -> Account:
    with sessions() as session:
        return session.scalars(select(Account).where(Account.email == email)).one()


def can_sign_in(browser: TestClient, email: str, password: str) -> bool:
    data = {"email": email, "password": password}
    return browser.post("/admin/sign-in", data=data, headers=OWN).status_code == 303


def test_an_account_is_made_disabled_and_enabled_and_given_another_password(
    browser: TestClient, sessions: Sessions
) -> None:
    sign_in(browser, ADA)
    assert browser.post(HERE, data=NEW).headers["Location"] == f"{HERE}?told=account-created"
    email = "new@example.org"
    made = find(sessions, email)
    assert (made.role, made.tenant) == ("operator", None)
    assert email in browser.get(HERE).text
    assert browser.post(HERE, data=NEW).status_code == 409
    account = f"{HERE}/{made.id}"
    assert browser.post(f"{account}/disable", data={"reason": "left"}).status_code == 303
    assert not can_sign_in(browser, email, NEW["password"])
    assert browser.post(f"{account}/enable").status_code == 303
    assert browser.post(f"{account}/password", data={"password": "short"}).status_code == 422
    assert browser.post(f"{account}/password", data={"password": "a better horse battery"}).status_code == 303
    assert not can_sign_in(browser, email, NEW["password"])
    assert can_sign_in(browser, email, "a better horse battery")
    assert audited(sessions) == [
        (ADA, "account.created", email, None, None),
        (ADA, "account.disabled", email, None, "left"),
        (ADA, "account.enabled", email, None, None),
        (ADA, "account.password_changed", email, None, None),
    ]


def test_what_makes_no_account_is_refused(browser: TestClient, sessions: Sessions) -> None:
    sign_in(browser, ADA)
    long = "x" * 201
    for name, value in (
        ("email", "nobody"),
        ("email", ""),
        ("role", "root"),
        ("role", ""),
        ("password", "short"),
        ("tenant", long),
    ):
        assert browser.post(HERE, data={**NEW, name: value}).status_code == 422, (name, value)
    assert audited(sessions) == []


def test_the_last_who_manages_all_is_not_disabled_and_changes_their_password_elsewhere(
    browser: TestClient, sessions: Sessions
) -> None:
    sign_in(browser, ADA)
    own = f"{HERE}/{find(sessions, ADA).id}"
    refused = browser.post(f"{own}/disable")
    assert (refused.status_code, "last-admin" in refused.text) == (409, True)
    # whoever found the browser open does not know it
    assert browser.post(f"{own}/password", data={"password": NEW["password"]}).status_code == 422
    assert audited(sessions) == []
    assert can_sign_in(browser, ADA, PASSWORD)


def test_an_account_of_a_tenant_sees_and_makes_those_of_its_tenant_alone(
    browser: TestClient, sessions: Sessions
) -> None:
    sign_in(browser, RED)
    listed = browser.get(HERE).text
    assert RED in listed
    for email in (ADA, VIEWER):
        assert email not in listed
        account = f"{HERE}/{find(sessions, email).id}"
        for act in ("disable", "enable", "password"):
            answer = browser.post(f"{account}/{act}", data={"password": NEW["password"]})
            unknown = browser.post(f"{HERE}/{uuid.uuid4()}/{act}", data={"password": NEW["password"]})
            assert (answer.status_code, answer.text) == (404, unknown.text)
    assert audited(sessions) == []
    for email, tenant in (("a@example.org", ""), ("b@example.org", "blue")):
        assert browser.post(HERE, data={**NEW, "email": email, "tenant": tenant}).status_code == 303
        assert find(sessions, email).tenant == "red"


def test_who_does_not_manage_sees_and_makes_no_accounts(browser: TestClient, sessions: Sessions) -> None:
    sign_in(browser, VIEWER)
    assert browser.get(HERE).status_code == 403
    assert browser.post(HERE, data=NEW).status_code == 403
    account = f"{HERE}/{find(sessions, RED).id}"
    assert [browser.post(f"{account}/{act}").status_code for act in ("disable", "enable", "password")] == [
        403
    ] * 3
    assert audited(sessions) == []
