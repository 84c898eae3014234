"""Members put together to items: a picture, and what lies beside it under one key says its label.

As in WebDataset's shards, a key is a name up to the first dot behind its last slash, and the members of one
follow each other: `a.b/000.jpg`, `000.cls`. The label is what `.cls` says, else the field `label` of `.json`,
else `.txt`; without any of these it may be the folder's name.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

import orjson

from jobs.errors import DomainError
from jobs.members import Member, MemberError, is_archive, is_litter, plain, quoted

SIDECARS: Final = ("cls", "json", "txt")
"""By whose word comes first."""
SIDECAR_BYTES: Final = 2**20
MAX_LABEL: Final = 1_000
MAX_TRUE_LABELS: Final = 100
"""Of one item."""
GROUP: Final = 16
GROUP_BYTES: Final = 64 * 2**20
"""So much of one key is put together at most: it is held until the last of it is read."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is to become an item: the bytes of a file, or why there are none.

    `behind` is the place at which reading goes on once this one and all before it are kept; None where it is
    not the last of its group. `litter` was left by a system and is to be counted alone.
    """

    name: str
    data: bytes | None = None
    error: MemberError | None = None
    true_label: str | None = None
    behind: int | None = None
    litter: bool = False


@dataclass(slots=True)
class _Group:
    key: str
    entries: list[Entry] = field(default_factory=list)
    labels: dict[str, str | MemberError | None] = field(default_factory=dict)
    sidecars: list[Entry] = field(default_factory=list)
    held_bytes: int = 0

    @property
    def is_full(self) -> bool:
        return len(self.entries) + len(self.sidecars) >= GROUP or self.held_bytes >= GROUP_BYTES

    def take(self, entry: Entry, kind: str) -> None:
        """Hold one more."""
        if kind in SIDECARS and entry.data is not None:
            self.labels[kind] = _label_of(entry.name, kind, entry.data)
            # no picture in any case
            self.sidecars.append(replace(entry, data=entry.data[:SIDECAR_BYTES]))
        else:
            self.entries.append(entry)
            self.held_bytes += len(entry.data or b"")

    def closed(self, behind: int) -> Iterator[Entry]:
        """The items of the group; with no picture among them, what should have told of one is an item."""
        label = next((found for kind in SIDECARS if (found := self.labels.get(kind)) is not None), None)
        shown = self.entries or self.sidecars
        for number, entry in enumerate(shown, start=1):
            told = replace(entry, behind=behind if number == len(shown) else None)
            if isinstance(label, MemberError):
                yield replace(told, data=None, error=told.error or label)
            else:
                yield replace(told, true_label=label or told.true_label)


def read_entries(members: Iterable[Member], *, folder_labels: bool = False) -> Iterator[Entry]:
    """The items of members in their order; see `Entry` for where reading may go on.

    Raises:
        DomainError: the archive is broken; what was read before has been handed out.
    """
    group, place = _Group(""), -1
    try:
        for member in members:
            key, kind = split_key(member.name)
            if group.key != key or group.is_full:
                closed, group = group, _Group(key)
                yield from closed.closed(member.place)
            entry = _entry(member, folder_labels=folder_labels)
            place = member.place
            group.take(entry, kind)
    except DomainError:
        yield from group.closed(place + 1)
        raise
    yield from group.closed(place + 1)


def split_key(name: str) -> tuple[str, str]:
    """The key of a member's name, and what it is under that key, in lower case."""
    folder, slash, base = name.rpartition("/")
    stem, _, kind = base.partition(".")
    # nothing before the first dot: a name as of hidden files, that shares its key with no other
    return (folder + slash + (stem or base), kind.lower())


def label_fault(label: str) -> str | None:
    """What is wrong with a label of an item, if anything is."""
    if not label:
        return "it is empty"
    if len(label) > MAX_LABEL:
        return f"it has {len(label)} characters, {MAX_LABEL} may be"
    return "it has control characters" if plain(label) != label else None


def _entry(member: Member, *, folder_labels: bool) -> Entry:
    name = plain(member.name)
    if is_litter(name):
        return Entry(name, litter=True)
    try:
        data = member.read()
    except MemberError as error:
        return Entry(name, error=error)
    if is_archive(name, data[:512]):
        return Entry(
            name,
            error=MemberError(
                "nested-archive", f"{quoted(name)} is an archive in an archive: send it as one of its own."
            ),
        )
    return Entry(name, data, true_label=_folder(name) if folder_labels else None)


def _folder(name: str) -> str | None:
    return name.replace("\\", "/").rpartition("/")[0].rpartition("/")[2] or None


def _label_of(name: str, kind: str, data: bytes) -> str | MemberError | None:
    """The label that a member tells; None where it tells of other things."""
    try:
        label = _told(kind, data)
    except ValueError:
        return MemberError("bad-label", f"{quoted(name)} does not tell a label: it is no {kind} in UTF-8.")
    if label is None:
        return None
    if fault := label_fault(label):
        return MemberError("bad-label", f"The label in {quoted(name)} cannot be taken: {fault}.")
    return label


def _told(kind: str, data: bytes) -> str | None:
    if len(data) > SIDECAR_BYTES:
        raise ValueError("larger than any label")
    if kind != "json":
        return data.decode().strip()
    found = orjson.loads(data)
    label = found.get("label") if isinstance(found, dict) else None
    if label is None or isinstance(label, str):
        return label
    if isinstance(label, bool) or not isinstance(label, int):
        raise ValueError("no name and no number of a class")  # noqa: TRY004 - it is what the bytes say
    return str(label)
