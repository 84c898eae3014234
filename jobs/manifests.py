"""Manifests: JSON Lines or CSV that name pictures, a line each, with what is known of them.

A picture is named by one of `image_id` (of an image that is kept), `sha256` (of one that is kept) and `file`
(its name in an archive that is sent beside). `custom_id`, `true_label` and `split` may be said of it, and
where several labels are true `true_labels`: a list, in CSV with `|` between them. What else a manifest has is
left out, but for a `label` without any of these two, which is refused. A line that says none of this well is
told by its number.
"""

import csv
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import orjson

from jobs.errors import NotAManifestError
from jobs.members import MAX_NAME, MemberError, plain
from jobs.shards import MAX_TRUE_LABELS, label_fault

LINE_BYTES: Final = 2**20
HEAD_BYTES: Final = 2**16
MAX_SPLIT: Final = 100
"""As in a request that adds items."""
BOM: Final = b"\xef\xbb\xbf"
TRUTHS: Final = frozenset({"true_label", "true_labels"})
MEANT: Final = "label"
NOT_MEANT: Final = "which says nothing here: what a picture shows is its `true_label`"
"""To leave that out as anything else that is not known would be to lose all true labels in silence."""
NAMING: Final = ("image_id", "sha256", "file")
SHA256: Final = re.compile("[0-9a-f]{64}")
IMAGE_ID: Final = re.compile("(?:img_)?([0-9a-f]{32})")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a manifest, counted from 1: what it says of a picture, or what is wrong with it.

    Of `image_id`, `sha256` and `file` exactly one is set where there is no error.
    """

    number: int
    custom_id: str | None = None
    true_label: str | None = None
    split: str | None = None
    image_id: uuid.UUID | None = None
    sha256: str | None = None
    file: str | None = None
    error: MemberError | None = None
    true_labels: tuple[str, ...] = ()


def read_manifest(file: BinaryIO) -> Iterator[Line]:
    """The lines of a manifest that are not empty, in their order; a few are held at a time.

    Raises:
        NotAManifestError: it is neither JSON Lines nor CSV that names pictures.
    """
    file.seek(0)
    head = file.read(HEAD_BYTES).removeprefix(BOM).lstrip()
    file.seek(0)
    if not head:
        raise NotAManifestError("The manifest is empty.")
    if head.startswith(b"["):
        raise NotAManifestError("This is one list of JSON: send JSON Lines, an object a line.")
    if head.startswith(b"{"):
        return _read_json_lines(file)
    if b"\x00" in head:
        raise NotAManifestError
    return _read_csv(file)


def _read_json_lines(file: BinaryIO) -> Iterator[Line]:
    for number, raw in enumerate(_lines(file), start=1):
        if raw is None:
            yield _fault(number, f"it has more than {LINE_BYTES} bytes")
        elif raw.strip():
            yield _json_line(number, raw)


def _json_line(number: int, raw: bytes) -> Line:
    try:
        fields = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        return _fault(number, f"it is no JSON ({error})")
    if not isinstance(fields, dict):
        return _fault(number, "it is no JSON object")
    if MEANT in fields and not TRUTHS & set(fields):
        return _fault(number, f"it has a `label`, {NOT_MEANT}")
    return _line(number, fields)


def _read_csv(file: BinaryIO) -> Iterator[Line]:
    texts = _Texts(file)
    # strict: a quote in the wrong place is told of, not guessed at
    rows = csv.reader(texts, strict=True)
    try:
        columns = [name.strip() for name in next(rows)]
    except (csv.Error, StopIteration):
        raise NotAManifestError from None
    if not set(NAMING) & set(columns):
        raise NotAManifestError(
            f"The first line has none of the columns {', '.join(NAMING)}: by one of them pictures are named."
        )
    if MEANT in columns and not TRUTHS & set(columns):
        raise NotAManifestError(f"The first line has a column `label`, {NOT_MEANT}.")
    if len(set(columns)) < len(columns):
        raise NotAManifestError("The first line names a column twice.")
    while True:
        number = texts.number + 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield _fault(number, f"it is no CSV ({error})")
            continue
        if not row:
            continue
        if len(row) != len(columns):
            yield _fault(number, f"it has {len(row)} columns, the first line {len(columns)}")
        else:
            # a column that is empty says nothing
            yield _line(number, {name: value or None for name, value in zip(columns, row, strict=True)})


class _Texts(Iterator[str]):
    """The lines of a file as texts, counted."""

    def __init__(self, file: BinaryIO) -> None:
        self._lines = _lines(file)
        self.number = 0

    def __next__(self) -> str:
        raw = next(self._lines)
        self.number += 1
        if raw is None:
            raise csv.Error(f"more than {LINE_BYTES} bytes")
        # what is no UTF-8 becomes lone surrogates, which no field may have
        return raw.decode(errors="surrogateescape")


def _lines(file: BinaryIO) -> Iterator[bytes | None]:
    """The lines of a file; None for one that is too long to be any."""
    first = True
    while raw := file.readline(LINE_BYTES + 1):
        if len(raw) > LINE_BYTES:
            while raw and not raw.endswith(b"\n"):
                raw = file.readline(LINE_BYTES)
            yield None
        else:
            yield raw.removeprefix(BOM) if first else raw
        first = False


def _line(number: int, fields: Mapping[str, Any]) -> Line:
    try:
        texts = {name: _text(fields, name, MAX_NAME) for name in ("custom_id", *NAMING)}
        label, labels = _label(fields, "true_label"), _labels(fields)
        split = _text(fields, "split", MAX_SPLIT)
        if label is not None and labels:
            return _fault(number, "it has both true_label and true_labels")
        if sum(texts[name] is not None for name in NAMING) != 1:
            return _fault(number, f"it must have one of {', '.join(NAMING)}")
        image_id, sha256 = texts["image_id"], texts["sha256"]
        if sha256 is not None and not SHA256.fullmatch(sha256.lower()):
            return _fault(number, "its sha256 is not 64 hexadecimal digits")
        found = None if image_id is None else IMAGE_ID.fullmatch(image_id)
        if image_id is not None and found is None:
            return _fault(number, "its image_id is none: img_ and 32 hexadecimal digits")
    except ValueError as error:
        return _fault(number, str(error))
    return Line(
        number,
        texts["custom_id"],
        label,
        split,
        None if found is None else uuid.UUID(found[1]),
        sha256 and sha256.lower(),
        texts["file"],
        true_labels=labels,
    )


def _text(fields: Mapping[str, Any], name: str, most: int) -> str | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError(f"its {name} is no text")  # noqa: TRY004 - it is what the line says
    if not value or len(value) > most:
        raise ValueError(f"its {name} has {len(value)} characters, 1 to {most} may be")
    if plain(value) != value:
        raise ValueError(f"its {name} has control characters, or is no UTF-8")
    return value


def _labels(fields: Mapping[str, Any]) -> tuple[str, ...]:
    labels = fields.get("true_labels")
    if labels is None:
        return ()
    listed = labels.split("|") if isinstance(labels, str) else labels
    if not isinstance(listed, list) or not 1 <= len(listed) <= MAX_TRUE_LABELS:
        raise ValueError(f"its true_labels are no list of 1 to {MAX_TRUE_LABELS} labels")
    found = [_label({"true_labels": label}, "true_labels") for label in listed]
    named = tuple(label for label in found if label is not None)
    if len(set(named)) < len(listed):
        raise ValueError("its true_labels name one twice, or none")
    return named


def _label(fields: Mapping[str, Any], name: str) -> str | None:
    label = fields.get(name)
    if isinstance(label, int) and not isinstance(label, bool):
        label = str(label)
    if label is None:
        return None
    if not isinstance(label, str):
        raise ValueError(f"its {name} is no text")  # noqa: TRY004 - likewise
    if fault := label_fault(label):
        raise ValueError(f"its {name} cannot be taken: {fault}")
    return label


def _fault(number: int, what: str) -> Line:
    return Line(number, error=MemberError("bad-line", f"Line {number} of the manifest: {what}."))
