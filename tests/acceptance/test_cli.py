"""The command line as a script and a person run it: real commands at the real service."""

import json
import re
import signal
import subprocess
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from cli.ending import FAILED, INTERRUPTED, PARTIAL, REFUSED, USAGE
from tests.acceptance.shell import LABELS, NOWHERE, PICTURES, Shell, submitted
from tests.conftest import SAMPLES
from tests.ledger import MODEL

pytestmark = pytest.mark.timeout(300)


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
