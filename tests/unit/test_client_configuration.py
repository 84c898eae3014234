"""Where the client looks for the service and its key, and what a command writes when it is refused."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.results import write_items
from lensqueue_client import Item, NotFoundError
from lensqueue_client.configuration import DEFAULT_URL, configure


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that one stands in, with what `lensqueue up` leaves there."""
    for name in ("LENSQUEUE_URL", "LENSQUEUE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    state = tmp_path / ".lensqueue"
    state.mkdir()
    (state / "api-key").write_text("lq_here\n")
    (state / "url").write_text("http://127.0.0.1:8011\n")
    return state


def test_the_key_of_a_folder_goes_to_the_service_of_that_folder(folder: Path) -> None:
    found = configure()
    assert (found.url, found.key) == ("http://127.0.0.1:8011", "lq_here")
    (folder / "url").unlink()
    assert configure().url == DEFAULT_URL


def test_what_is_given_goes_before_the_environment_and_that_before_the_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LENSQUEUE_URL", "http://of.the.environment")
    assert configure().url == "http://of.the.environment"
    assert configure("http://given", "lq_given").key == "lq_given"
    assert configure("http://given").url == "http://given"


@pytest.mark.parametrize("end", ["/", "/v1", "/v1/"])
def test_the_version_may_stand_in_the_address(folder: Path, end: str) -> None:
    assert configure("http://given/below" + end).url == "http://given/below"


def test_nothing_is_written_of_results_that_are_refused() -> None:
    def refused() -> Iterator[Item]:
        yield from iter(ask, None)

    def ask() -> Item | None:
        raise NotFoundError("There is no such job.", code="not-found", status=404)

    file = io.StringIO()
    with pytest.raises(NotFoundError):
        write_items(refused(), file)
    assert file.getvalue() == ""
