"""What `lensqueue doctor` says of the API."""

from pathlib import Path

import pytest

from cli.connection import Connection
from cli.machine_checks import Level
from cli.service_checks import check_api


def test_the_address_that_was_asked_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    # nothing listens on the discard port
    monkeypatch.setenv("LENSQUEUE_URL", "http://127.0.0.1:9")
    (finding,) = check_api(Connection(key="lq_test"), [])
    assert (finding.check, finding.level) == ("api", Level.FAIL)
    assert finding.found.count("http://127.0.0.1:9") == 1


def test_without_a_key_it_says_who_has_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LENSQUEUE_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path)
    (finding,) = check_api(Connection(), [])
    assert (finding.check, finding.level) == ("key", Level.FAIL)
    assert "make up" in str(finding.remedy)
