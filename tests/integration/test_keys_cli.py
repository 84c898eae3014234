"""`lensqueue keys`, as a person and a script run it, on a database and on the folder of an embedded stack."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker
from typer.testing import CliRunner, Result

from cli.main import app
from embedded.stack import Stack
from jobs.keys import KEY, hash_key
from models import schema
from tests.ledger import scalar

Sessions = sessionmaker[Session]
ROOT = Path(__file__).resolve().parents[2]
VARIABLE = "LENSQUEUE_DATABASE_URL"


def run(*arguments: str, url: str | None = None) -> Result:
    """Run it in this process; without a URL there is none in the environment."""
    return CliRunner().invoke(app, ["keys", *arguments], env={VARIABLE: url, "COLUMNS": "80"})


def read_json(*arguments: str, url: str | None = None) -> Any:
    done = run(*arguments, "--json", url=url)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def is_good(sessions: Sessions, key: str) -> bool:
    with sessions() as session:
        return session.scalar(KEY, {"sha256": hash_key(key)}) is not None


def test_a_key_is_made_alone_on_stdout_listed_and_revoked(database_url: str, sessions: Sessions) -> None:
    made = run(
        *("create", "--name", "night [job]", "--tenant", "red", "--scope", "submit", "--scope", "admin"),
        *("--requests-per-minute", "50", "--expires-in-days", "2"),
        url=database_url,
    )
    assert made.exit_code == 0, made.stderr
    key = made.stdout.removesuffix("\n")
    assert is_good(sessions, key)
    assert key not in made.stderr
    second = read_json("create", "--name", "plain", url=database_url)
    assert is_good(sessions, second.pop("key"))
    assert (second["tenant"], second["scopes"]) == ("default", ["submit", "read"])
    listed = read_json("list", url=database_url)["items"]
    assert listed[0] == second
    (first,) = read_json("list", "--tenant", "red", url=database_url)["items"]
    assert (first["scopes"], first["requests_per_minute"]) == (["submit", "admin"], 50)
    assert first["expires_at"] is not None
    assert key.startswith(first["hint"])
    # the last administrator of its tenant, too
    assert run("revoke", first["id"], url=database_url).exit_code == 0
    revoked = read_json("revoke", first["id"], url=database_url)
    assert revoked["revoked_at"] is not None
    assert not is_good(sessions, key)
    table = run("list", url=database_url)
    # however narrow the terminal
    for shown in (first["id"], second["id"], "night [job]", "revoked", "good"):
        assert shown in table.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("create",),
        ("create", "--name", ""),
        ("create", "--name", "x" * 201),
        ("create", "--name", "\udcff"),
        ("create", "--name", "a", "--scope", "root"),
        ("create", "--name", "a", "--requests-per-minute", "0"),
        ("create", "--name", "a", "--expires-in-days", "1000000"),
        ("revoke", "lq_abc"),
    ],
)
def test_what_cannot_be_understood_ends_with_2_and_does_nothing(
    database_url: str, sessions: Sessions, arguments: tuple[str, ...]
) -> None:
    refused = run(*arguments, url=database_url)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "Traceback" not in refused.stderr
    assert scalar(sessions, "SELECT count(*) FROM api_keys") == 0


def test_without_a_database_it_says_what_to_do(tmp_path: Path, empty_database_url: str) -> None:
    unreachable = "postgresql+psycopg://lensqueue@127.0.0.1:1/lensqueue"
    for arguments, url, said in (
        (("list",), unreachable, VARIABLE),
        (("list",), empty_database_url, "lensqueue migrate"),
        (("list", "--state", str(tmp_path)), None, f"lensqueue up --state {tmp_path}"),
        (("revoke", "key_" + "0" * 32), empty_database_url, "lensqueue migrate"),
    ):
        failed = run(*arguments, url=url)
        assert (failed.exit_code, failed.stdout) == (1, "")
        assert said in failed.stderr
        assert "Traceback" not in failed.stderr


def test_an_unknown_key_cannot_be_revoked(database_url: str) -> None:
    failed = run("revoke", "key_" + "0" * 32, url=database_url)
    assert failed.exit_code == 1
    assert "no key" in failed.stderr


def test_the_database_of_a_running_stack_is_found_by_its_folder(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema.upgrade(stack.database_url)
    made = read_json("create", "--name", "by folder", "--state", str(stack.state))
    (tmp_path / ".lensqueue").symlink_to(stack.state)
    monkeypatch.chdir(tmp_path)
    # where `lensqueue up` runs, nothing has to be said
    assert made["id"] in [item["id"] for item in read_json("list")["items"]]


def test_a_shell_gets_the_key_and_nothing_else(database_url: str, sessions: Sessions) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f'KEY=$({sys.executable} -m cli keys create --name shell) && printf %s "$KEY"'],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
        cwd=ROOT,
        env={**os.environ, VARIABLE: database_url},
    )
    assert is_good(sessions, done.stdout)
    assert "shown again" in done.stderr
