"""API keys in the dashboard: made and shown once, listed with what they did, revoked."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from api.app import create_app
from api.dashboard.addresses import PAGE
from api.schemas import ids
from api.settings import ApiSettings
from jobs.keys import create_key, hash_key
from jobs.usage import Counts, KeyDay, record
from models.api_key import ApiKey
from models.types import Role, Scope
from tests.dashboard import add_account, audited, once_in, sign_in
from tests.ledger import TENANT

Sessions = sessionmaker[Session]
HERE = "/admin/keys"
ADA, RED, OPERATOR = "ada@example.org", "red@example.org", "operator@example.org"
MARKUP = "<script>alert(1)</script>"


@pytest.fixture
def browser(settings: ApiSettings, sessions: Sessions) -> Iterator[TestClient]:
    add_account(sessions, ADA)
    add_account(sessions, RED, Role.ADMIN, "red")
    add_account(sessions, OPERATOR, Role.OPERATOR)
    with TestClient(create_app(settings), base_url="https://testserver") as client:
        yield client


def test_a_key_is_shown_once_and_written_down_without_it(browser: TestClient, sessions: Sessions) -> None:
    sign_in(browser, ADA)
    asked = {
        "once": once_in(browser.get(HERE).text),
        "name": MARKUP,
        "tenant": TENANT,
        "scope": ["read", "admin"],
        "expires_in_days": "2",
    }
    made = browser.post(HERE, data=asked)
    assert (made.status_code, made.headers["Cache-Control"]) == (200, "no-store")
    (key,) = re.findall(r"lq_[\w-]{43}", made.text)
    with sessions() as session:
        row = session.scalars(select(ApiKey)).one()
    assert (row.sha256, row.scopes, row.requests_per_minute) == (hash_key(key), ["read", "admin"], None)
    assert row.expires_at is not None
    listed = browser.get(HERE)
    assert key not in listed.text
    assert row.hint in listed.text
    assert MARKUP not in made.text + listed.text
    assert audited(sessions) == [(ADA, "key.created", ids.key_id(row.id), TENANT, None)]


def test_a_form_that_is_sent_twice_makes_one_key_and_does_not_show_it_again(
    browser: TestClient, sessions: Sessions
) -> None:
    sign_in(browser, ADA)
    once = once_in(browser.get(HERE).text)
    assert once_in(browser.get(HERE).text) != once
    asked = {"once": once, "name": "night", "tenant": TENANT, "scope": "read"}
    (key,) = re.findall(r"lq_[\w-]{43}", browser.post(HERE, data=asked).text)
    again = browser.post(HERE, data=asked)
    assert (again.status_code, again.headers["Location"]) == (303, f"{HERE}?told=key-made-before")
    told = browser.get(again.headers["Location"]).text
    assert "shown once" in told
    assert key not in again.text + told
    assert len(audited(sessions)) == 1
    # whoever goes back and asks for another one gets it
    other = browser.post(HERE, data=asked | {"name": "day"})
    assert re.findall(r"lq_[\w-]{43}", other.text) not in ([], [key])
    with sessions() as session:
        assert sorted(row.name for row in session.scalars(select(ApiKey))) == ["day", "night"]


def test_what_makes_no_key_is_refused(browser: TestClient, sessions: Sessions) -> None:
    sign_in(browser, ADA)
    refused: list[tuple[str, str | list[str]]] = [
        ("once", ""),
        ("once", "\N{ARABIC-INDIC DIGIT THREE}"),
        ("once", "a" * 256),
        ("name", ""),
        ("name", "x" * 201),
        ("scope", []),
        ("scope", "root"),
        ("tenant", ""),
        ("tenant", "x" * 201),
        ("requests_per_minute", "0"),
        ("requests_per_minute", "-1"),
        ("requests_per_minute", "1.5"),
        ("requests_per_minute", "\N{ARABIC-INDIC DIGIT THREE}"),
        ("expires_in_days", "999999999999"),
        ("expires_in_days", "9" * 10_000),
    ]
    for name, value in refused:
        asked = {"once": "a", "name": "a", "tenant": TENANT, "scope": "read", name: value}
        assert browser.post(HERE, data=asked).status_code == 422, (name, value)
    with sessions() as session:
        assert session.scalars(select(ApiKey)).all() == []


def test_keys_are_listed_with_what_they_did_and_revoked_for_good(
    browser: TestClient, sessions: Sessions
) -> None:
    with sessions.begin() as session:
        row = create_key(session, name="night", tenant=TENANT, scopes=Scope).row
        today = datetime.now(UTC).date()
        record(
            session,
            {
                KeyDay(row.id, today): Counts(requests=1_200, refused=7),
                KeyDay(row.id, today.replace(year=today.year - 1)): Counts(requests=50_000),
            },
        )
    sign_in(browser, ADA)
    listed = browser.get(HERE).text
    assert "1,200" in listed
    assert "51,200" not in listed
    # the last one of its tenant that can make keys, too: this account can make another
    revoke = f"{HERE}/{ids.key_id(row.id)}/revoke"
    assert browser.post(revoke, data={"reason": "leaked"}).headers["Location"] == f"{HERE}?told=key-revoked"
    assert browser.post(revoke).status_code == 303
    assert "revoked" in browser.get(HERE).text
    assert f'action="{revoke}"' not in browser.get(HERE).text
    assert audited(sessions) == [(ADA, "key.revoked", ids.key_id(row.id), TENANT, "leaked")]


def test_an_account_of_a_tenant_manages_its_keys_alone_and_gives_no_more_than_it_has(
    browser: TestClient, sessions: Sessions
) -> None:
    with sessions.begin() as session:
        strange = create_key(session, name="strange", tenant=TENANT, scopes=Scope).row
        own = create_key(session, name="own admin", tenant="red", scopes=Scope).row
    sign_in(browser, RED)
    listed = browser.get(HERE).text
    assert "strange" not in listed
    assert "own admin" in listed
    assert browser.post(f"{HERE}/{ids.key_id(strange.id)}/revoke").status_code == 404
    # nobody of the tenant could make another
    assert browser.post(f"{HERE}/{ids.key_id(own.id)}/revoke").status_code == 409
    asked = {"once": "a", "name": "mine", "tenant": TENANT, "scope": ["read", "admin"]}
    assert browser.post(HERE, data=asked).status_code == 403
    assert audited(sessions) == []
    assert browser.post(HERE, data={**asked, "scope": "read"}).status_code == 200
    with sessions() as session:
        made = session.scalars(select(ApiKey).where(ApiKey.name == "mine")).one()
    assert (made.tenant, made.scopes) == ("red", ["read"])


def test_who_does_not_manage_sees_and_makes_no_keys(browser: TestClient, sessions: Sessions) -> None:
    with sessions.begin() as session:
        row = create_key(session, name="strange", tenant=TENANT).row
    sign_in(browser, OPERATOR)
    assert browser.get(HERE).status_code == 403
    assert browser.post(HERE, data={"name": "a", "tenant": TENANT, "scope": "read"}).status_code == 403
    assert browser.post(f"{HERE}/{ids.key_id(row.id)}/revoke").status_code == 403
    assert f'href="{HERE}"' not in browser.get("/admin/account").text
    assert audited(sessions) == []


def test_keys_are_paged(browser: TestClient, sessions: Sessions) -> None:
    with sessions.begin() as session:
        for place in range(PAGE + 1):
            create_key(session, name=f"number {place}.", tenant=TENANT)
    sign_in(browser, ADA)
    first = browser.get(HERE).text
    assert "number 0." not in first
    following = first.partition(f'href="{HERE}?')[2].partition('"')[0]
    assert "number 0." in browser.get(f"{HERE}?{following}").text
