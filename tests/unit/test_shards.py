"""Members of one key become one item, and say its label."""

import io

import pytest

from jobs.archives import read_archive
from jobs.shards import GROUP, Entry, read_entries
from tests.packed import tar_of, zip_of


def entries_of(archive: bytes, *, folder_labels: bool = False) -> list[Entry]:
    return list(read_entries(read_archive(io.BytesIO(archive)), folder_labels=folder_labels))


def labels_of(files: dict[str, bytes], *, folder_labels: bool = False) -> dict[str, str | None]:
    return {entry.name: entry.true_label for entry in entries_of(tar_of(files), folder_labels=folder_labels)}


@pytest.mark.parametrize(
    ("sidecars", "label"),
    [
        ({"cls": b"3\n"}, "3"),
        ({"txt": b" a ring "}, "a ring"),
        ({"json": b'{"label": "star"}'}, "star"),
        ({"json": b'{"label": 7}'}, "7"),
        ({"json": b'{"width": 7}', "txt": b"ring"}, "ring"),
        ({"txt": b"a caption", "json": b'{"label": "star"}'}, "star"),
        ({"cls": b"0", "json": b'{"label": "star"}', "txt": b"ring"}, "0"),
        ({"json": b'{"width": 7}'}, None),
    ],
)
def test_what_lies_beside_a_picture_says_its_label(sidecars: dict[str, bytes], label: str | None) -> None:
    beside = {f"a.b/000.{kind}": data for kind, data in sidecars.items()}
    assert labels_of({"a.b/000.jpg": b"picture", **beside}) == {"a.b/000.jpg": label}
    assert labels_of({**beside, "a.b/000.jpg": b"picture"}) == {"a.b/000.jpg": label}


def test_only_neighbours_of_one_key_belong_together() -> None:
    files = {"a/0.jpg": b"x", "b/0.cls": b"1", "b/0.jpg": b"y", "b/0.seg.png": b"z", "1.jpg": b"w"}
    assert labels_of(files) == {"a/0.jpg": None, "b/0.jpg": "1", "b/0.seg.png": "1", "1.jpg": None}


def test_folders_are_labels_where_that_is_wanted_and_nothing_else_says_one() -> None:
    files = {"train/ring/0.jpg": b"x", "star/0.jpg": b"y", "star/0.txt": b"comet", "top.jpg": b"z"}
    assert labels_of(files, folder_labels=True) == {
        "train/ring/0.jpg": "ring",
        "star/0.jpg": "comet",
        "top.jpg": None,
    }


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("0.cls", b""),
        ("0.txt", b"\xff"),
        ("0.json", b"{"),
        ("0.json", b'{"label": 1.5}'),
        ("0.txt", b"x" * 1001),
    ],
)
def test_a_label_that_cannot_be_read_is_told_of_its_picture(name: str, data: bytes) -> None:
    (entry,) = entries_of(zip_of({"0.jpg": b"x", name: data}))
    assert entry.error is not None
    assert (entry.name, entry.data, entry.error.code) == ("0.jpg", None, "bad-label")
    assert name in entry.error.message


def test_what_tells_of_no_picture_is_an_item_itself() -> None:
    (entry,) = entries_of(zip_of({"README.txt": b"read me"}))
    assert (entry.name, entry.data) == ("README.txt", b"read me")


def test_archives_in_archives_are_refused_alone() -> None:
    inner = zip_of({"a.png": b"x"})
    entries = entries_of(
        zip_of({"inner.zip": inner, "named.png": inner, "t.png": tar_of({"a": b"x"}), "c.jpg": b"x"})
    )
    assert [entry.error and entry.error.code for entry in entries] == ["nested-archive"] * 3 + [None]


def test_what_systems_leave_behind_is_counted_alone() -> None:
    entries = entries_of(zip_of({"a.jpg": b"x", "__MACOSX/._a.jpg": b"y", ".DS_Store": b"z"}))
    assert [entry.litter for entry in entries] == [False, True, True]


def test_reading_goes_on_behind_a_group_and_finds_the_same() -> None:
    files = {f"{number}.{kind}": b"1" for number in range(3) for kind in ("cls", "jpg", "seg.jpg")}
    files |= {f"same.{number}.jpg": b"x" for number in range(GROUP + 4)}
    archive = tar_of(files)
    whole = entries_of(archive)
    assert [entry.behind for entry in whole[:6]] == [None, 3, None, 6, None, 9]
    for place, entry in enumerate(whole, start=1):
        if entry.behind is not None:
            rest = (m for m in read_archive(io.BytesIO(archive)) if m.place >= entry.behind)
            assert list(read_entries(rest)) == whole[place:]
    assert whole[-1].behind == len(files)
