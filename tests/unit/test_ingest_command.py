"""What `lensqueue sets ingest --wait` says of what was not added."""

import pytest

from cli.set_files import _own, _reasons, _say_why
from jobs.ingested import ingested
from lensqueue_client import ItemError, SetItem


def failed(index: int, code: str, name: str | None) -> SetItem:
    error = ItemError(code, f"{name}: {code}, it says.", retryable=False)
    return SetItem(index, "failed", custom_id=name, error=error)


def test_what_failed_before_an_ingestion_is_not_told_of_it() -> None:
    items = [failed(index, "not-an-image", None) for index in (1, 4, 6, 8)]
    assert [item.index for item in _own(items, first=4, count=2)] == [4, 6]


def test_reasons_are_told_by_how_many_they_befell_with_the_first_of_each(
    capsys: pytest.CaptureFixture[str],
) -> None:
    items = [
        failed(3, "file-missing", None),
        *(failed(index, "not-an-image", f"{index}.txt") for index in range(5, 10)),
    ]
    (most, least) = _reasons(items)
    assert (most["code"], most["count"], [each["index"] for each in most["first"]]) == (
        "not-an-image",
        5,
        [5, 6, 7],
    )
    assert (least["code"], least["count"]) == ("file-missing", 1)
    _say_why(items, 1_000)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "5 x not-an-image, first:"
    assert said[1] == "  [5] 5.txt: 5.txt: not-an-image, it says."
    assert said[-1] == "These are of the first 6 of 1000."


def test_an_ingestion_that_added_nothing_says_so_and_why() -> None:
    nothing = {"added": 0, "there": 7, "failed": 2, "skipped": 0}
    assert ingested(nothing) == "Nothing was added: 7 there already, 2 failed"
    assert ingested({**nothing, "added": 3}) == "3 added, 7 there already, 2 failed"
    assert ingested(dict.fromkeys(nothing, 0)) == "Nothing was added: there was nothing in it"
