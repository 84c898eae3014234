"""`lensqueue admin`: accounts of the dashboard, made and ended by whoever runs the service."""

import json
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker
from typer.testing import CliRunner, Result

from cli.main import app
from jobs.accounts import account_named, open_session, verify
from models.account import AccountSession
from tests.dashboard import audited
from tests.ledger import scalar

Sessions = sessionmaker[Session]
VARIABLE = "LENSQUEUE_DATABASE_URL"
ADA = "ada@example.org"
PASSWORD = "correct horse battery"
CREATE = ("create", "--password-stdin", "--email")


@pytest.fixture(autouse=True)
def _database(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, database_url)
    monkeypatch.setenv("COLUMNS", "80")


def run(*arguments: str, said: str = f"{PASSWORD}\n") -> Result:
    return CliRunner().invoke(app, ["admin", *arguments], input=said)


def listed() -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = json.loads(run("list", "--json").stdout)["items"]
    return items


def matches(sessions: Sessions, email: str, password: str) -> bool:
    with sessions() as session:
        return verify(session.scalar(account_named(email)), password)


def test_an_account_is_made_listed_disabled_and_enabled(sessions: Sessions) -> None:
    made = run(*CREATE, f" {ADA.upper()} ")
    assert made.exit_code == 0, made.output
    assert PASSWORD not in made.output
    assert run(*CREATE, "red@example.org", "--role", "viewer", "--tenant", "red [team]").exit_code == 0
    assert matches(sessions, ADA, PASSWORD)
    red, ada = listed()
    assert (ada["email"], ada["role"], ada["tenant"], ada["disabled_at"]) == (ADA, "admin", None, None)
    assert (red["role"], red["tenant"]) == ("viewer", "red [team]")
    table = run("list").stdout
    for shown in (ADA, "red [team]", "viewer", "good"):
        assert shown in table
    with sessions.begin() as session:
        account = session.scalar(account_named("red@example.org"))
        assert account is not None
        open_session(session, account, lasts=account.created_at - account.created_at, agent="")
    assert run("disable", "--email", "red@example.org").exit_code == 0
    assert not matches(sessions, "red@example.org", PASSWORD)
    with sessions() as session:
        assert session.scalars(select(AccountSession)).one().revoked_at is not None
    assert "disabled" in run("list").stdout
    assert run("enable", "--email", "red@example.org").exit_code == 0
    assert matches(sessions, "red@example.org", PASSWORD)
    assert [(verb, target, tenant) for _, verb, target, tenant, _ in audited(sessions)] == [
        ("account.created", ADA, None),
        ("account.created", "red@example.org", "red [team]"),
        ("account.disabled", "red@example.org", "red [team]"),
        ("account.enabled", "red@example.org", "red [team]"),
    ]
    assert audited(sessions)[0][0].endswith("(command line)")


def test_a_password_is_replaced(sessions: Sessions) -> None:
    assert run(*CREATE, ADA).exit_code == 0
    replace = ("password", "--email", ADA, "--password-stdin")
    assert run(*replace, said="a better horse battery\n").exit_code == 0
    assert not matches(sessions, ADA, PASSWORD)
    assert matches(sessions, ADA, "a better horse battery")
    assert run(*replace, said="short\n").exit_code == 1
    assert matches(sessions, ADA, "a better horse battery")


def test_a_password_is_asked_for_twice_and_not_shown(sessions: Sessions) -> None:
    asked = run("create", "--email", ADA, said=f"{PASSWORD}\n{PASSWORD}\n")
    assert asked.exit_code == 0, asked.output
    assert PASSWORD not in asked.output
    assert matches(sessions, ADA, PASSWORD)


def test_what_makes_no_account_is_told_without_a_traceback(sessions: Sessions) -> None:
    for arguments, password, code, said in (
        ((*CREATE, "nobody"), PASSWORD, 1, "no email address"),
        ((*CREATE, "a b@example.org"), PASSWORD, 1, "no email address"),
        ((*CREATE, ADA), "eleven char", 1, "12 to 1000"),
        ((*CREATE, ADA), "", 1, "12 to 1000"),
        ((*CREATE, ADA), "x" * 1_001, 1, "12 to 1000"),
        ((*CREATE, ADA, "--role", "root"), PASSWORD, 2, "root"),
        (("create", "--password-stdin"), PASSWORD, 2, "--email"),
        (("disable", "--email", ADA), "", 1, "no account"),
        (("enable", "--email", ADA), "", 1, "no account"),
        (("password", "--password-stdin", "--email", ADA), PASSWORD, 1, "no account"),
    ):
        failed = run(*arguments, said=f"{password}\n")
        assert (failed.exit_code, failed.stdout) == (code, ""), arguments
        assert said in failed.stderr.replace("\n", " "), failed.stderr
        assert "Traceback" not in failed.stderr
    assert scalar(sessions, "SELECT count(*) FROM accounts") == 0
    assert audited(sessions) == []


def test_an_address_has_one_account_and_the_last_who_manages_all_stays(sessions: Sessions) -> None:
    assert run(*CREATE, ADA).exit_code == 0
    again = run(*CREATE, ADA.upper(), said="a better horse battery\n")
    assert again.exit_code == 1
    assert matches(sessions, ADA, PASSWORD)
    # nobody of one tenant could make another who manages all
    assert run(*CREATE, "red@example.org", "--tenant", "red").exit_code == 0
    assert run("disable", "--email", ADA).exit_code == 1
    assert run(*CREATE, "eve@example.org").exit_code == 0
    assert run("disable", "--email", ADA).exit_code == 0
    assert run("disable", "--email", "eve@example.org").exit_code == 1
