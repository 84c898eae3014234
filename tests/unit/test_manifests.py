"""Manifests: what a line says of a picture, and which line says nothing that can be used."""

import io
import tracemalloc
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import DomainError, NotAManifestError
from jobs.manifests import LINE_BYTES, Line, read_manifest

SHA = "a" * 64
IMAGE = uuid.UUID(int=7)


def lines_of(manifest: bytes) -> list[Line]:
    return list(read_manifest(io.BytesIO(manifest)))


def faults_of(manifest: bytes) -> dict[int, str]:
    return {line.number: line.error.message for line in lines_of(manifest) if line.error is not None}


def test_json_lines_name_pictures_in_three_ways() -> None:
    manifest = (
        f'{{"image_id": "img_{IMAGE.hex}", "custom_id": "one", "true_label": "ring", "split": "test"}}\n'
        "\n"
        f'{{"sha256": "{SHA.upper()}", "true_label": 3}}\n'
        '{"file": "a/b.png", "width": 7}\n'
        '{"file": "c.png", "true_labels": ["ring", 3]}'
    ).encode()
    assert lines_of(b"\xef\xbb\xbf" + manifest) == [
        Line(1, "one", "ring", "test", image_id=IMAGE),
        Line(3, true_label="3", sha256=SHA),
        Line(4, file="a/b.png"),
        Line(5, file="c.png", true_labels=("ring", "3")),
    ]


def test_csv_has_several_true_labels_in_one_column() -> None:
    assert lines_of(b"file,true_labels\na.png,a ring|a star\nb.png,\nc.png,one\nd.png,a||b\n")[:3] == [
        Line(2, file="a.png", true_labels=("a ring", "a star")),
        Line(3, file="b.png"),
        Line(4, file="c.png", true_labels=("one",)),
    ]
    assert "it is empty" in faults_of(b"file,true_labels\nd.png,a||b\n")[2]


def test_csv_names_pictures_by_its_columns() -> None:
    manifest = f'file,custom_id,sha256,note\r\na.png,one,,x\r\n,"two, quoted",{SHA},\r\n"über.png",,,\r\n'
    assert lines_of(b"\xef\xbb\xbf" + manifest.encode()) == [
        Line(2, "one", file="a.png"),
        Line(3, "two, quoted", sha256=SHA),
        Line(4, file="über.png"),
    ]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("{", "no JSON"),
        ("[1]", "no JSON object"),
        ("{}", "one of image_id, sha256, file"),
        ('{"file": "a", "sha256": "' + SHA + '"}', "one of image_id, sha256, file"),
        ('{"file": 3}', "file is no text"),
        ('{"file": ""}', "0 characters"),
        ('{"sha256": "abc"}', "64 hexadecimal"),
        ('{"image_id": "img_x"}', "32 hexadecimal"),
        ('{"file": "a", "true_label": ["x"]}', "true_label is no text"),
        ('{"file": "a", "true_label": ""}', "it is empty"),
        ('{"file": "a", "true_label": "x", "true_labels": ["y"]}', "both true_label and true_labels"),
        ('{"file": "a", "true_labels": []}', "no list of 1 to 100"),
        ('{"file": "a", "true_labels": {"x": 1}}', "no list of 1 to 100"),
        ('{"file": "a", "true_labels": ["x", "x"]}', "name one twice"),
        ('{"file": "a", "true_labels": [null]}', "name one twice, or none"),
        ('{"file": "a", "true_labels": [["x"]]}', "true_labels is no text"),
        ('{"file": "a", "label": "ring"}', "is its `true_label`"),
        ('{"file": "a", "custom_id": "\\u0000"}', "control characters"),
        ('{"file": "a", "split": "' + "x" * 101 + '"}', "101 characters"),
    ],
)
def test_a_line_that_says_nothing_useful_is_told_by_its_number(line: str, what: str) -> None:
    faults = faults_of(f'{{"file": "a.png"}}\n{line}\n{{"file": "b.png"}}\n'.encode())
    assert list(faults) == [2]
    assert "Line 2 " in faults[2]
    assert what in faults[2]


def test_a_row_that_is_not_one_is_told_by_its_number() -> None:
    manifest = b'file,true_label\na.png,ring\nb.png\n"c.png" x,ring\n\xff.png,ring\nd.png,star\n'
    assert list(faults_of(manifest)) == [3, 4, 5]
    assert lines_of(manifest)[-1] == Line(6, true_label="star", file="d.png")


@pytest.mark.parametrize(
    ("manifest", "what"),
    [
        (b"", "empty"),
        (b"  \n\n", "empty"),
        (b'[{"file": "a"}]', "JSON Lines"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "no manifest"),
        (b"name,label\na.png,ring\n", "image_id, sha256, file"),
        (b"file,file\na,b\n", "twice"),
        (b"file,label\na.png,ring\n", "`true_label`"),
    ],
)
def test_what_is_no_manifest_says_what_to_send(manifest: bytes, what: str) -> None:
    with pytest.raises(NotAManifestError, match=what):
        lines_of(manifest)


@pytest.mark.parametrize(
    ("begin", "endless", "numbers"),
    [
        (b'{"file": "a"}\n{"file": "', b"x" * (20 * LINE_BYTES) + b'"}\n{"file": "b"}\n', {1, 3}),
        (b"file\na\n", b"x" * (20 * LINE_BYTES) + b"\nb\n", {2, 4}),
        # a quote that nobody closes: given up after as much as a field may have
        (b'file\na\n"', (b"x" * 999 + b"\n") * 140 + b"b\n", {2, 143}),
    ],
)
def test_a_line_without_an_end_is_not_held(begin: bytes, endless: bytes, numbers: set[int]) -> None:
    manifest = io.BytesIO(begin + endless)
    tracemalloc.start()
    found = {line.number for line in read_manifest(manifest) if line.error is None}
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * LINE_BYTES
    assert found == numbers


@given(st.binary(max_size=200), st.sampled_from([b"", b'{"file": "a"}\n', b"file,custom_id\n"]))
def test_noise_raises_nothing_unknown_and_says_only_what_can_be_stored(noise: bytes, head: bytes) -> None:
    try:
        lines = lines_of(head + noise)
    except DomainError:
        return
    for line in lines:
        said = [line.custom_id, line.true_label, line.split, line.file, line.error and line.error.message]
        assert all("\x00" not in text.encode().decode() for text in said if text)
