"""What the pages for operators name exists, and is as they say."""

import re
from datetime import timedelta
from importlib import import_module
from pathlib import Path

import pytest

from api.following import HEARTBEAT_SECONDS
from api.schemas.submissions import LensRequest
from api.settings import ApiSettings
from cli.processes import api_argv
from jobs.maintenance import LOCK_SPACE, REMOVING, TIDY_SECONDS
from worker.settings import WorkerSettings

DOCS = Path(__file__).resolve().parents[2] / "docs"
ROOT = DOCS.parent
RETENTION = DOCS / "how-to" / "retention.md"
SECURITY = DOCS / "architecture" / "6-security.md"
HOW_TO = ("back-up", "upgrade", "retention", "monitor")
PAGES = [*(DOCS / "how-to" / f"{name}.md" for name in HOW_TO), SECURITY]
FIELDS = {**ApiSettings.model_fields, **WorkerSettings.model_fields}
TERM = re.compile(r"^\| `(jobs\.[a-z_]+)\.([A-Z_]+)` \| ([0-9]+) (minute|hour|day)s? \|", re.MULTILINE)
NAMED_SO = re.compile(r"([A-Z_]+_)?KEPT|GRACE|PATIENCE")
ENDS = re.compile(r".*_days|text_cache_bytes|max_tenant_copy_bytes")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_setting_and_every_file_that_is_named_exists(page: Path) -> None:
    text = page.read_text()
    named = re.findall(r"\bLENSQUEUE_([A-Z0-9_]+)", text)
    assert {name.lower() for name in named} <= FIELDS.keys()
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    files = re.findall(r"`((?:[a-z_0-9-]+/)+[A-Za-z_0-9-]+(?:\.(?:py|md|yml))?)`", text)
    assert links or files
    assert all((page.parent / link).exists() for link in links)
    assert all((ROOT / file).exists() for file in files)


def test_every_term_is_as_long_as_is_said() -> None:
    terms = TERM.findall(RETENTION.read_text())
    assert len(terms) > 5
    for module, name, count, unit in terms:
        assert getattr(import_module(module), name) == timedelta(**{f"{unit}s": int(count)}), name


def test_every_term_that_is_in_the_code_is_told() -> None:
    told = {f"{module}.{name}" for module, name, *_ in TERM.findall(RETENTION.read_text())}
    known = set()
    for file in sorted((ROOT / "jobs").glob("*.py")):
        module = import_module(f"jobs.{file.stem}")
        named = set(re.findall(r"^([A-Z_]+)(?:: Final)? = timedelta", file.read_text(), re.MULTILINE))
        known |= {f"{module.__name__}.{name}" for name in named if NAMED_SO.fullmatch(name)}
    # by settings
    assert known - told == {"jobs.retention.DELETED_JOBS_KEPT", "jobs.undelivered.DELIVERIES_KEPT"}


def test_every_setting_that_ends_something_is_told_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `LENSQUEUE_([A-Z_]+)` \| ([0-9]+)", RETENTION.read_text(), re.MULTILINE))
    ending = {name.upper() for name in FIELDS if ENDS.fullmatch(name)}
    assert ending <= rows.keys()
    scales = {"TEXT_CACHE_BYTES": 2**20, "MAX_TENANT_COPY_BYTES": 2**30}
    for name, said in rows.items():
        assert FIELDS[name.lower()].default == int(said) * scales.get(name, 1), name


def test_every_field_of_a_job_that_ends_something_is_told() -> None:
    told = set(re.findall(r"^\| `([a-z_]+_s)` \|", RETENTION.read_text(), re.MULTILINE))
    assert told == {name for name in LensRequest.model_fields if name.endswith("_s")}


def test_the_locks_that_a_backup_takes_by_hand_are_those_of_the_duties() -> None:
    page = (DOCS / "how-to" / "back-up.md").read_text()
    taken = re.findall(
        r"^SELECT pg_advisory_lock\((\d+), duty\) FROM unnest\(ARRAY\[(.*)\]\)", page, re.MULTILINE
    )
    assert taken == [(str(LOCK_SPACE), ", ".join(map(str, REMOVING)))]


def test_duties_run_as_often_as_is_said() -> None:
    assert TIDY_SECONDS == 10
    assert "every ten seconds" in RETENTION.read_text()


def test_no_header_of_a_proxy_is_believed() -> None:
    assert "--no-proxy-headers" in api_argv("127.0.0.1", 8000)
    assert "--no-proxy-headers" in SECURITY.read_text()


def test_containers_run_as_the_user_that_is_named() -> None:
    (user,) = set(re.findall(r"^USER (.+)$", (ROOT / "deploy" / "Dockerfile").read_text(), re.MULTILINE))
    assert user != "0"
    assert f"uid {user}" in SECURITY.read_text()


def test_a_proxy_waits_for_longer_than_a_poll_may_last() -> None:
    (seconds,) = re.findall(r"proxy_read_timeout (\d+)s", SECURITY.read_text())
    assert int(seconds) > ApiSettings.model_fields["max_wait_seconds"].default
    assert int(seconds) > HEARTBEAT_SECONDS
