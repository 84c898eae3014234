"""What the command line says where it cannot do what it is asked to, and what the doctor finds."""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from cli.connection import RETRIES
from cli.ending import FAILED, REFUSED, UNREACHABLE, USAGE
from tests.acceptance.conftest import free_port
from tests.acceptance.shell import LABELS, NOWHERE, PICTURES, Shell
from tests.ledger import MODEL

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("submit", PICTURES[0]), USAGE, "--labels"),
        (("submit", "nowhere.jpg", "--labels", LABELS), USAGE, "No such file"),
        (("submit", PICTURES[0], "--labels", "@nowhere.txt"), USAGE, "No such file"),
        (("submit", PICTURES[0], "--labels", LABELS, "--patch-layers", "some"), USAGE, "every:4"),
        (("submit", PICTURES[0], "--labels", LABELS, "--tag", "x"), USAGE, "key:value"),
        (("submit", PICTURES[0], "--labels", LABELS, "--model", "nobody/knows"), REFUSED, "Unknown model"),
        (("submit", PICTURES[0], "--labels", LABELS, "--outputs", "x"), REFUSED, "/options/outputs/0"),
        (("watch", "job_unknown"), REFUSED, "nothing of that id"),
        (("results", f"job_{uuid.uuid4().hex}"), REFUSED, "nothing of that id"),
        (("results", "job_x", "-o", "file.csv"), USAGE, "*.parquet, *.npz, *.ndjson, *.jsonl or *.json;"),
        (("submit", "tests/unit", "--labels", LABELS), USAGE, "tests/unit holds no pictures"),
        (("--key", "lq_nobody", "models"), REFUSED, "unknown, revoked or expired"),
        (("--url", "localhost", "models"), USAGE, "no http address"),
        (("models", "--url", "localhost"), USAGE, "'localhost' is no http address"),
        (("queues", "pause", "x", "--url=localhost"), USAGE, "'localhost' is no http address"),
        (("models", "--key", "lq_nobody"), REFUSED, "unknown, revoked or expired"),
        (("models", "--url"), USAGE, "--url needs a value"),
        (("submit", "", "--labels", LABELS), USAGE, "PICTURES"),
        (("submit", "--labels", LABELS), USAGE, "PICTURES, or an image set by --set"),
        (("submit", PICTURES[0], "--set", "ims_x", "--labels", LABELS), USAGE, "PICTURES, or an image set"),
        (("submit", "--set", "ims_x:two", "--labels", LABELS), USAGE, "'two' is no number of a version"),
        (("submit", "--set", "isv_x", "--labels", LABELS), REFUSED, "version"),
        (("summarise", "job_unknown"), REFUSED, "nothing of that id"),
        (("submit", PICTURES[0], "--labels", "a,b,a"), USAGE, "'a' is there twice"),
        (("submit", PICTURES[0], "--labels", '"a, b'), USAGE, '"a cat, sitting",a dog'),
        (("nonsense",), USAGE, "No such command"),
    ],
)
def test_what_cannot_be_done_says_why_and_ends_with_its_status(
    shell: Shell, arguments: tuple[str, ...], status: int, said: str
) -> None:
    done = shell.refuse(*arguments, status=status)
    assert said in done.stderr
    assert done.stdout == ""


def test_a_refusal_is_one_document_too(shell: Shell) -> None:
    told = shell.json("submit", PICTURES[0], "--labels", LABELS, "--outputs", "x", status=REFUSED)["error"]
    assert (told["status"], told["code"]) == (422, "invalid-request")
    assert told["errors"][0]["pointer"] == "/options/outputs/0"
    assert shell.json("watch", "job_unknown", status=REFUSED)["error"]["code"] == "not-found"


@pytest.mark.parametrize(
    "arguments",
    [
        ("submit", PICTURES[0]),
        ("submit", PICTURES[0], "--labels", "@nowhere.txt"),
        ("submit", "nowhere.jpg", "--labels", LABELS),
        ("watch", "--nonsense"),
        ("watch",),
        ("nonsense",),
        ("--url", "localhost", "models"),
        ("keys", "create", "--name", ""),
    ],
)
def test_what_cannot_be_understood_is_one_document_too(shell: Shell, arguments: tuple[str, ...]) -> None:
    done = shell.refuse(*arguments, "--json", status=USAGE)
    told = json.loads(done.stdout)["error"]
    assert set(told) == {"code", "message", "status", "request_id", "errors"}
    assert told["message"]
    assert done.stderr == ""


def test_a_refusal_is_told_once(shell: Shell) -> None:
    arguments = ("submit", PICTURES[0], "--labels", LABELS, "--outputs", "x")
    assert shell.run(*arguments, status=REFUSED).stderr.count("/options/outputs/0") == 1
    assert shell.run(*arguments, "--json", status=REFUSED).stderr == ""


def test_where_nothing_answers_it_says_so_at_once_and_what_to_do(shell: Shell) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    *tries, end = shell.run("--url", url, "models", status=UNREACHABLE).stderr.splitlines()
    assert [url in line and "trying again in" in line for line in tries] == [True] * RETRIES
    assert url in end
    assert "make up" in end
    assert "--url" in end


def test_the_doctor_finds_a_running_service_well(shell: Shell) -> None:
    told = shell.json("doctor")
    failed = [finding for finding in told["findings"] if finding["level"] == "fail"]
    assert (told["healthy"], failed) == (True, [])
    assert shell.run("doctor").stdout.splitlines()[-1].startswith(("All is well", "Nothing has to be mended"))
    checks = {finding["check"]: finding["found"] for finding in told["findings"]}
    assert checks["database"].startswith("Postgres ")
    assert checks[f"workers of {MODEL}"] == "1 online"
    assert {"python", "torch", "schema", "clock", "broker", "blobs", "api", "key"} <= set(checks)


def test_the_doctor_says_what_to_do_about_what_is_not_well(shell: Shell, tmp_path: Path) -> None:
    env = {
        "LENSQUEUE_DATABASE_URL": f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/none",
        "LENSQUEUE_BROKER_URL": f"redis://127.0.0.1:{free_port()}/0",
        "LENSQUEUE_BLOBS": str(tmp_path),
        "LENSQUEUE_API_KEY": "lq_nobody",
        "HF_HOME": str(tmp_path),
        "HF_HUB_OFFLINE": "1",
    }
    told = shell.json("doctor", "--model", NOWHERE, status=FAILED, **env)
    failed = {each["check"] for each in told["findings"] if each["level"] == "fail"}
    assert failed == {"database", "broker", "blobs", "key", f"weights of {NOWHERE}"}
    assert all(finding["remedy"] for finding in told["findings"] if finding["level"] != "ok")
    said = shell.run("doctor", "--model", NOWHERE, status=FAILED, **env).stdout
    assert "-> " in said
    assert "5 to be mended before the service works" in said


def test_help_tells_the_exit_statuses() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cli", "submit", "--help"],
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "4 when nothing answers" in done.stdout
