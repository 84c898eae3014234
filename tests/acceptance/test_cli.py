"""The command line as a script and a person run it: real commands at the real service."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from cli.connection import RETRIES
from cli.ending import FAILED, INTERRUPTED, PARTIAL, REFUSED, UNREACHABLE, USAGE
from jobs.keys import create_key
from models.types import Scope
from tests.acceptance.conftest import RunningService, free_port
from tests.commands import run_here
from tests.conftest import SAMPLES
from tests.ledger import MODEL, TENANT

pytestmark = pytest.mark.timeout(300)
PICTURES = [str(SAMPLES / f"scene-{number:05}.jpg") for number in range(3)]
LABELS = "cyan ring,red diamond,orange square"
NOWHERE = "google/siglip-base-patch16-224"


class Shell:
    """Runs `lensqueue` as its own process, with the service's address and a key in the environment."""

    def __init__(self, service: RunningService, folder: Path, key: str) -> None:
        self.folder = folder
        self.env = {
            **service.env,
            "LENSQUEUE_URL": f"http://127.0.0.1:{service.port}",
            "LENSQUEUE_API_KEY": key,
            "COLUMNS": "200",
        }

    def argv(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "cli", *arguments]

    def run(self, *arguments: str, status: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.argv(*arguments),
            env={**self.env, **env},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done

    def refuse(self, *arguments: str, status: int) -> subprocess.CompletedProcess[str]:
        """A command that comes to nothing, without a process of its own."""
        env = {name: value for name, value in self.env.items() if name.startswith(("LENSQUEUE_", "COLUMNS"))}
        done = run_here(*arguments, **env)
        assert done.returncode == status, done.stdout + done.stderr
        return done

    def json(self, *arguments: str, status: int = 0, **env: str) -> Any:
        """The one document on stdout."""
        return json.loads(self.run(*arguments, "--json", status=status, **env).stdout)


@pytest.fixture(scope="module")
def shell(service: RunningService, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    with service.sessions.begin() as session:
        key = create_key(session, name="command line", tenant=TENANT, scopes=Scope).key
    return Shell(service, tmp_path_factory.mktemp("shell"), key)


def submitted(shell: Shell, *arguments: str) -> str:
    return shell.run("submit", *PICTURES, "--labels", LABELS, *arguments).stdout.strip()


def test_a_job_goes_from_pictures_to_results(shell: Shell) -> None:
    job = submitted(shell)
    assert re.fullmatch(r"job_[0-9a-f]{32}", job)
    watched = shell.run("watch", job)
    assert watched.stdout.strip() == job
    assert "3 of 3 succeeded" in watched.stderr
    lines = shell.run("results", job).stdout.splitlines()
    assert [json.loads(line)["top"]["label"] for line in lines] == LABELS.split(",")
    assert shell.json("results", job)["items"] == [json.loads(line) for line in lines]


def test_whoever_waits_gets_the_ended_job_as_one_document(shell: Shell, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("cyan ring\nred diamond\n")
    options = ("--labels", f"@{labels}", "--outputs", "pooled,patch", "--patch-layers", "every:2")
    job = shell.json("submit", PICTURES[0], *options, "--template", "a {}", "--wait", "--priority", "bulk")
    assert (job["done"], job["state"], job["priority"]) == (True, "succeeded", "bulk")
    (item,) = shell.json("results", job["id"])["items"]
    assert (item["pooled"]["labels"], item["patch"]["layers"]) == (["cyan ring", "red diamond"], [2, 4, 6])
    assert job["provenance"]["template"] == "a {}"


def test_the_exit_status_tells_how_a_job_ended(shell: Shell, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture")
    some = shell.json("submit", *PICTURES, str(bad), "--labels", LABELS, "--wait", status=PARTIAL)
    assert some["progress"]["failed"] == 1
    again = shell.run("watch", some["id"], status=PARTIAL).stderr
    assert f"lensqueue results {some['id']}" in again
    # a picture that is broken stays so
    assert "lensqueue retry" not in again
    none = shell.run("submit", str(bad), "--labels", LABELS, "--wait", status=FAILED)
    assert "0 of 1 succeeded, 1 failed" in none.stderr
    shell.run("watch", none.stdout.strip(), status=FAILED)


def test_a_key_makes_one_job_of_several_submits(shell: Shell) -> None:
    key = str(uuid.uuid4())
    assert submitted(shell, "--idempotency-key", key) == submitted(shell, "--idempotency-key", key)


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


def test_ctrl_c_leaves_a_job_running_and_says_so(shell: Shell) -> None:
    job = shell.run("submit", PICTURES[0], "--labels", LABELS, "--model", NOWHERE)
    assert "It waits: " in job.stderr
    assert "0 of 1 item so far." in shell.run("results", job.stdout.strip()).stderr
    watching = subprocess.Popen(
        shell.argv("watch", job.stdout.strip()), env=shell.env, stderr=subprocess.PIPE, text=True
    )
    time.sleep(4)  # it has begun to wait, or is about to: either way it is to end like this
    watching.send_signal(signal.SIGINT)
    _, said = watching.communicate(timeout=30)
    assert watching.returncode == INTERRUPTED
    assert f"lensqueue cancel {job.stdout.strip()}" in said or "Interrupted" in said
    ended = shell.json("cancel", job.stdout.strip())
    assert (ended["done"], ended["progress"]["dropped"]) == (True, 1)
    assert shell.run("cancel", job.stdout.strip()).stdout == ""


def test_models_workers_and_queues_are_told(shell: Shell) -> None:
    submitted(shell)  # a model has a queue from its first job on
    assert MODEL in {model["name"] for model in shell.json("models")["items"]}
    (worker,) = [each for each in shell.json("workers")["items"] if each["state"] == "online"]
    assert worker["model"] == MODEL
    assert MODEL in {each["model"] for each in shell.json("queues")["items"]}
    for command in ("models", "workers", "queues"):
        assert MODEL in shell.run(command).stdout


def test_a_queue_is_paused_and_resumed(shell: Shell) -> None:
    paused = shell.json("queues", "pause", MODEL)
    assert (paused["model"], paused["paused_at"] is not None) == (MODEL, True)
    job = submitted(shell)
    assert "paused" in shell.run("queues").stdout
    assert shell.json("jobs", "--limit", "1")["items"][0]["id"] == job
    shell.run("queues", "resume", MODEL)
    shell.run("watch", job)
    shell.run("workers", "drain", "wrk_unknown", status=REFUSED)


def test_jobs_are_listed_found_by_tag_tried_again_and_deleted(shell: Shell, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture")
    tag = f"run:{uuid.uuid4().hex}"
    job = shell.json(
        *("submit", PICTURES[0], str(bad), "--labels", LABELS, "--tag", tag, "--wait"), status=PARTIAL
    )
    assert [each["id"] for each in shell.json("jobs", "--tag", tag)["items"]] == [job["id"]]
    again = shell.json("retry", job["id"])
    assert (again["retry_of"], again["progress"]["total"]) == (job["id"], 1)
    shell.run("watch", again["id"], status=FAILED)
    shell.run("delete", job["id"])
    shell.run("watch", job["id"], status=REFUSED)
    assert job["id"] not in shell.run("jobs").stdout


def test_all_jobs_of_a_filter_are_acted_upon_once_they_are_counted(shell: Shell) -> None:
    tag = f"run:{uuid.uuid4().hex}"
    ids = [submitted(shell, "--tag", tag, "--wait") for _ in range(2)]
    found = ("--state", "succeeded", "--state", "failed", "--tag", tag)
    assert [each["id"] for each in shell.json("jobs", *found)["items"]] == ids[::-1]
    unasked = shell.json("jobs", "delete", *found, status=USAGE)["error"]
    assert unasked["message"] == "2 jobs found; add --yes to delete them"
    shell.run("jobs", *found, "delete", "--yes", status=USAGE)
    shell.run("jobs", "delete", "--yes", status=REFUSED)  # it would be all there are
    again = shell.run("jobs", "retry", *found, "--yes", "--reason", "to see")
    assert again.stderr == "0 done, 2 skipped\n"
    deleted = shell.json("jobs", "delete", *found, "--yes")
    assert (deleted["done"], deleted["skipped"]) == (2, 0)
    assert shell.json("jobs", "--tag", tag)["items"] == []
    told = shell.json("jobs", "actions", "--limit", "2")["items"]
    assert [each["id"] for each in told] == [deleted["id"], again.stdout.strip()]
    assert "to see" in shell.run("jobs", "actions").stdout


def test_other_labels_are_scored_on_what_a_job_kept(shell: Shell) -> None:
    job = submitted(shell, "--outputs", "embeddings", "--wait")
    tag = f"run:{uuid.uuid4().hex}"
    again = shell.json("rescore", job, "--labels", "red heart,blue star", "--tag", tag, "--wait")
    assert (again["type"], again["state"]) == ("rescore", "succeeded")
    assert shell.json("results", again["id"])["items"][0]["pooled"]["labels"] == ["red heart", "blue star"]
    refused = shell.json("rescore", submitted(shell, "--wait"), "--labels", "a", status=REFUSED)["error"]
    assert refused["code"] == "embeddings-not-kept"


def test_a_folder_stands_for_its_pictures(shell: Shell, tmp_path: Path) -> None:
    for place, picture in enumerate(PICTURES):
        (tmp_path / f"{place}.jpg").symlink_to(picture)
    (tmp_path / "notes.txt").write_text("no picture")
    done = shell.run("submit", str(tmp_path), PICTURES[0], "--labels", LABELS, "--wait")
    assert "passed over: notes.txt" in done.stderr
    items = shell.json("results", done.stdout.strip())["items"]
    assert [item["custom_id"] for item in items] == ["0.jpg", "1.jpg", "2.jpg", Path(PICTURES[0]).name]


def test_a_folder_is_added_to_a_set_and_sealed(shell: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "shapes" / "ring"
    folder.mkdir(parents=True)
    for path in PICTURES[:2]:
        (folder / Path(path).name).write_bytes(Path(path).read_bytes())
    image_set = shell.run("sets", "create", "shapes [1]", "--licence", "CC0-1.0").stdout.strip()
    assert re.fullmatch(r"ims_[0-9a-f]{32}", image_set)
    added = shell.run("sets", "add", image_set, str(folder.parent), "--labels-from-folders")
    assert (added.stdout, "2 added of 2 pictures" in added.stderr) == ("", True)
    (folder / "torn.jpg").write_bytes(b"no picture")
    (folder / "notes.txt").write_bytes(b"a ring")
    again = shell.json("sets", "add", image_set, str(folder.parent), status=PARTIAL)
    assert {name: again[name] for name in ("total", "there", "added", "failed")} == {
        "total": 3,
        "there": 2,
        "added": 1,
        "failed": 1,
    }
    assert again["passed_over"] == [str(folder / "notes.txt")]
    version = shell.run("sets", "seal", image_set)
    assert re.fullmatch(r"isv_[0-9a-f]{32}\n", version.stdout)
    assert "version 1 has 3 items, 1 are no pictures" in version.stderr
    shown = shell.run("sets", "show", image_set)
    assert version.stdout.strip() in shown.stdout
    assert "shapes [1]; licence: CC0-1.0" in shown.stderr
    told = shell.json("sets", "show", image_set)["versions"]
    assert [(each["items"], each["labelled"]) for each in told] == [(3, 2)]
    assert shell.json("sets", "seal", image_set)["id"] == version.stdout.strip()
    assert shell.json("sets", "list", "--limit", "1")["items"][0]["id"] == image_set
    assert "shapes [1]" in shell.run("sets", "list").stdout
    assert shell.json("sets", "delete", image_set) == {"id": image_set, "deleted": True}
    shell.run("sets", "show", image_set, status=REFUSED)
    shell.run("sets", "add", image_set, str(tmp_path / "nowhere"), status=USAGE)


def test_folders_inside_of_folders_are_counted_or_gone_through(shell: Shell, tmp_path: Path) -> None:
    for place, picture in zip(("a", "a/inner", "b", ".hidden"), [*PICTURES, PICTURES[0]], strict=True):
        (tmp_path / "set" / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / place / "scene.jpg").symlink_to(picture)
    folder = str(tmp_path / "set")

    def names(*arguments: str) -> tuple[list[str], str]:
        done = shell.run("submit", *arguments, "--labels", LABELS, "--wait")
        items = shell.json("results", done.stdout.strip())["items"]
        return [item["custom_id"] for item in items], done.stderr

    found, said = names(f"{folder}/a")
    assert found == ["scene.jpg"]
    assert f"1 folder in {folder}/a passed over; --recursive takes" in said
    found, said = names(folder, "--recursive")
    assert found == ["a/inner/scene.jpg", "a/scene.jpg", "b/scene.jpg"]
    assert "passed over" not in said
    # one name twice: the paths tell them apart
    assert names(f"{folder}/a", f"{folder}/b", "-r")[0] == [
        f"{folder}/{path}" for path in ("a/inner/scene.jpg", "a/scene.jpg", "b/scene.jpg")
    ]
    assert names(f"{folder}/a/scene.jpg", f"{folder}/b/scene.jpg")[0] == [
        f"{folder}/{path}" for path in ("a/scene.jpg", "b/scene.jpg")
    ]
    none = shell.run("submit", folder, "--labels", LABELS, status=USAGE).stderr
    assert f"2 folders in {folder} passed over; --recursive" in none


def test_a_label_may_hold_commas_in_quotes(shell: Shell) -> None:
    labels = '"a cyan ring, alone",  red diamond, a 5" square'
    job = shell.json("submit", PICTURES[0], "--labels", labels)
    body = json.loads(shell.run("reproduce", job["id"]).stdout)
    assert body["labels"] == ["a cyan ring, alone", "red diamond", 'a 5" square']


def test_a_retry_of_what_succeeded_says_how_to_do_all_of_it_again(shell: Shell) -> None:
    job = submitted(shell, "--wait")
    assert f"lensqueue retry {job} --scope all" in shell.run("retry", job, status=REFUSED).stderr
    again = shell.json("retry", job, "--scope", "all")
    assert again["progress"]["total"] == 3


def test_a_job_is_reproduced_from_a_folder(shell: Shell, tmp_path: Path) -> None:
    job = submitted(shell, "--wait")
    body = json.loads(shell.run("reproduce", job).stdout)
    assert body["labels"] == LABELS.split(",")
    folder = tmp_path / "reproduced"
    said = shell.run("reproduce", job, "-o", str(folder)).stderr
    assert f"python {folder / 'reproduce.py'} PICTURE {SAMPLES.parents[1] / 'checkpoint'}" in said
    assert json.loads((folder / "request.json").read_text()) == body
    compile((folder / "reproduce.py").read_text(), "reproduce.py", "exec")
    assert json.loads((folder / "provenance.json").read_text())["model"] == MODEL


def test_a_job_without_labels_has_no_script_and_is_told_so(shell: Shell, tmp_path: Path) -> None:
    job = shell.run("submit", PICTURES[0], "--type", "embedding", "--wait").stdout.strip()
    said = shell.run("reproduce", job, "-o", str(tmp_path)).stderr
    assert "There is no script" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["provenance.json", "request.json"]


@pytest.mark.parametrize("end", ["parquet", "npz", "ndjson", "json"])
def test_results_are_written_to_files(shell: Shell, tmp_path: Path, end: str) -> None:
    job = submitted(shell, "--wait")
    target = tmp_path / f"out.{end}"
    told = shell.json("results", job, "-o", str(target))
    assert told == {"path": str(target), "bytes": target.stat().st_size}
    if end == "parquet":
        assert parquet.read_table(target).num_rows == 3
    elif end == "npz":
        with np.load(target) as arrays:
            assert arrays["cosine"].shape == (3, 7, 3)
    elif end == "ndjson":
        assert len(target.read_text().splitlines()) == 3
    else:
        assert len(json.loads(target.read_text())["items"]) == 3


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
