"""All of a service killed at once in the midst of image sets: what was done stays done, the rest is done."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import orjson
import pytest
from sqlalchemy.exc import DBAPIError

from cli.ending import PARTIAL
from embedded.postgres import database_url
from embedded.running import running_folders
from jobs.admission import MAX_UNIT_ITEMS
from lensqueue_client import Client
from models.session import sync_sessions
from tests.acceptance.standing import ROOT, Up, kill_family, lensqueue
from tests.broken import ONLY_INSIDE, with_broken
from tests.chaos.counting import counted, env_of
from tests.ledger import assert_settled, scalar
from tests.packed import zip_of
from tests.scenes import tiny_pngs

PICTURES: Final = 343
MANY: Final = 5_880
FINISH_SECONDS: Final = 90
TRIES: Final = """
    SELECT coalesce(jsonb_object_agg(unit, tries), '{}') FROM (
        SELECT unit, count(*) AS tries FROM attempts JOIN jobs ON jobs.id = attempts.job_id
        WHERE jobs.type = 'logit_lens' GROUP BY unit HAVING bool_or(outcome = 'completed')
    ) AS tried
"""
"""Of the units that are done, how often each was tried."""
ITEMS_TRIED_AGAIN: Final = """
    SELECT coalesce(sum(jsonb_array_length(items)), 0) FROM job_inputs JOIN jobs ON jobs.id = job_id
    WHERE jobs.type = 'logit_lens'
      AND (SELECT count(*) FROM attempts AS a WHERE (a.job_id, a.unit) = (jobs.id, job_inputs.unit)) > 1
"""
ADDED: Final = "SELECT items FROM image_set_versions ORDER BY created_at DESC LIMIT 1"


class Whole:
    """A `lensqueue up` that is killed and comes back, with a client and a look into its ledger."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.counted = folder / "counted"
        self.start()

    def start(self) -> None:
        env = {"LENSQUEUE_LEASE_SECONDS": "3", **env_of(self.counted, picture_ms=20)}
        self.up = Up(self.folder / "state", **env)
        self.up.wait_until_ready()
        folders = running_folders(self.up.state)
        assert folders is not None
        self.sessions = sync_sessions(database_url(folders))
        self.key = (self.up.state / "api-key").read_text().strip()
        self.client = Client(f"http://127.0.0.1:{self.up.port}", self.key)

    def let_go(self) -> None:
        self.client.close()
        self.sessions.kw["bind"].dispose()

    def kill_and_start_again(self) -> None:
        self.up.kill()
        self.let_go()
        self.start()

    def ingest(self, files: Mapping[str, bytes]) -> tuple[str, str]:
        """Have an archive added to a set of its own; the ids of the set and of the job."""
        made = self.client.create_set("many")
        answer = httpx.post(
            f"http://127.0.0.1:{self.up.port}/v1/image-sets/{made.id}/ingestions",
            headers={"Authorization": f"Bearer {self.key}"},
            files={"archive": ("many.zip", zip_of(files))},
            timeout=30,
        )
        return made.id, str(answer.raise_for_status().json()["id"])

    def wait_until(self, condition: Callable[[], bool]) -> None:
        until = time.monotonic() + FINISH_SECONDS
        while not condition():
            assert time.monotonic() < until, self.up.output.read_text()
            time.sleep(0.02)


@pytest.fixture
def folder() -> Iterator[Path]:
    # pytest's own is closed to the user of Postgres when root runs it
    made = Path(tempfile.mkdtemp(prefix="lensqueue-whole-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def whole(folder: Path) -> Iterator[Whole]:
    place = Whole(folder)
    yield place
    place.let_go()
    place.up.kill()


def ask(state: Path, question: str) -> Any:
    """An answer of the ledger of a service that may not be up yet; None then."""
    folders = running_folders(state)
    if folders is None:
        return None
    sessions = sync_sessions(database_url(folders))
    try:
        return scalar(sessions, question)
    except DBAPIError:
        return None
    finally:
        sessions.kw["bind"].dispose()


def run_until(condition: Callable[[], bool], command: Sequence[str], folder: Path) -> None:
    """Run a command that brings up a service on `folder`/state, and kill all of it in the midst."""
    env = {**os.environ, **env_of(folder / "counted", picture_ms=20), "LENSQUEUE_LEASE_SECONDS": "3"}
    with (folder / "analyze.log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log)
    until = time.monotonic() + FINISH_SECONDS
    while not condition():
        assert process.poll() is None, (folder / "analyze.log").read_text()
        assert time.monotonic() < until
        time.sleep(0.05)
    kill_family(process)


def test_a_job_and_an_ingestion_go_on_where_they_were_when_everything_was_killed(whole: Whole) -> None:
    files, codes = with_broken(tiny_pngs(PICTURES))
    first, filling = whole.ingest(files)
    assert whole.client.wait(filling, FINISH_SECONDS).state == "succeeded"
    version = whole.client.seal(first)
    job = whole.client.submit_lens_over(version, ["a cat", "a dog"])
    many, broken = with_broken(tiny_pngs(MANY))
    whole.wait_until(lambda: bool(scalar(whole.sessions, TRIES)))
    second, adding = whole.ingest(many)
    whole.wait_until(lambda: bool(scalar(whole.sessions, ADDED)))
    done = scalar(whole.sessions, TRIES)
    assert not whole.client.job(job).done
    assert not whole.client.job(adding).done
    whole.kill_and_start_again()
    ended = whole.client.wait(job, FINISH_SECONDS)
    assert (ended.progress.succeeded, ended.progress.failed) == (PICTURES, len(codes))
    # every file is told of by its name: the broken ones with their reasons, the others with results
    told = list(whole.client.results(job))
    assert {item.custom_id: item.error and item.error.code for item in told} == {
        name: codes.get(name) for name in files
    }
    assert all(item.cosine is not None for item in told if item.error is None)
    # what was done before was not done again, by the ledger and by the engine
    assert set(done.items()) <= set(scalar(whole.sessions, TRIES).items())
    seen = counted(whole.counted)
    assert len(seen) == PICTURES
    assert 0 < seen.total() - PICTURES <= scalar(whole.sessions, ITEMS_TRIED_AGAIN)
    # of the archive nothing is missing, and nothing is there twice
    assert whole.client.wait(adding, FINISH_SECONDS).state == "succeeded"
    sealed = whole.client.seal(second)
    lines = whole.client.download_manifest(sealed, whole.folder / "manifest").read_bytes().splitlines()
    outside = {name: code for name, code in broken.items() if not name.endswith(ONLY_INSIDE)}
    assert [(line["custom_id"], line["error"]) for line in map(orjson.loads, lines)] == [
        (name, outside.get(name)) for name in many
    ]
    assert_settled(whole.sessions)


def test_an_analysis_that_was_killed_while_it_sent_and_while_it_ran_finishes_when_it_is_run_again(
    folder: Path,
) -> None:
    files, codes = with_broken(tiny_pngs(PICTURES))
    for name, data in files.items():
        path = folder / "pictures" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    command = lensqueue(
        *("analyze", str(folder / "pictures"), "--labels", "a cat,a dog", "--truth", "none"),
        *("--out", str(folder / "found"), "--state", str(folder / "state")),
    )
    state, lines = folder / "state", folder / "counted"
    run_until(lambda: bool(ask(state, ADDED)), command, folder)
    assert not lines.exists()
    run_until(lambda: bool(ask(state, TRIES)) and counted(lines).total() > MAX_UNIT_ITEMS, command, folder)
    again = {**os.environ, **env_of(lines, picture_ms=0)}
    done = subprocess.run(
        command, cwd=ROOT, env=again, capture_output=True, text=True, timeout=FINISH_SECONDS, check=False
    )
    assert done.returncode == PARTIAL, done.stdout + done.stderr
    errors = map(orjson.loads, (folder / "found" / "errors.jsonl").read_bytes().splitlines())
    assert {each["custom_id"]: each["error"]["code"] for each in errors} == codes
    told = orjson.loads((folder / "found" / "summary.json").read_bytes())["counts"]
    assert (told["total"], told["succeeded"], told["failed"]) == (len(files), PICTURES, len(codes))
    page = (folder / "found" / "report.html").read_text()
    assert all(name in page for name in codes)
    # nothing was computed again but the unit that was under way
    seen = counted(lines)
    assert len(seen) == PICTURES
    assert seen.total() - PICTURES <= MAX_UNIT_ITEMS
