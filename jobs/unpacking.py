"""What a source comes to, step by step: pictures stored as they are found, and where reading may go on."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, Final

from jobs.archives import read_archive
from jobs.errors import DomainError
from jobs.file_index import FileIndex
from jobs.images import Content
from jobs.ingesting import Chunk, Found, Phase, Progress, SourceForm
from jobs.manifests import Line, read_manifest
from jobs.members import ArchiveLimits, Member, MemberError, plain, quoted
from jobs.s3 import S3Prefix, read_prefix
from jobs.shards import Entry, read_entries
from pictures.errors import PictureError
from pictures.upload import inspect

CHUNK_ITEMS: Final = 200
CHUNK_SECONDS: Final = 2.0
"""What is added at once takes about so long: what a killed worker has done in vain."""
UNNAMED: Final = frozenset({"member-unsafe-name", "member-name-too-long"})
"""Of members that are refused for their names, these are told in the message alone."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where objects are read from."""

    client: Any
    prefix: S3Prefix


@dataclass(frozen=True, slots=True)
class Reading:
    """A source that is open, a file or a prefix of S3, and how it is read.

    `keep` stores the bytes of a picture and returns their SHA-256; `step` is called with every member and
    line, also those that are passed over, and may end it all.
    """

    form: SourceForm
    file: BinaryIO | Bucket
    keep: Callable[[bytes], str]
    step: Callable[[], None]
    beside: BinaryIO | None = None
    folder_labels: bool = False
    limits: ArchiveLimits = field(default_factory=ArchiveLimits)


@dataclass(frozen=True, slots=True)
class Step:
    """What was found, if it was anything, and from where its phase goes on behind it.

    `place` is None where it cannot: what follows belongs together with it. `line` is the last that is done of
    those that name the member at that place.
    """

    phase: Phase
    place: int | None
    found: Found | None = None
    skipped: bool = False
    key: str = ""
    line: int = 0


def chunks_of(reading: Reading, progress: Progress) -> Iterator[Chunk]:
    """What is left of a source, cut into what is added at once; the last one says that it is done.

    Raises:
        DomainError: the source is broken; what was found before has been handed out.
    """
    chunk, began = Chunk(progress), time.monotonic()
    waiting: list[Found] = []
    steps = _steps_of(reading, progress)
    while True:
        try:
            step = next(steps, None)
        except DomainError:
            if chunk.found or chunk.after != progress:
                yield chunk
            raise
        if step is None:
            yield Chunk(replace(chunk.after, phase=Phase.DONE, place=0, line=0), chunk.found)
            return
        if step.found is not None:
            waiting.append(step.found)
        skipped = chunk.after.skipped + step.skipped
        if step.place is None:
            chunk.after = replace(chunk.after, skipped=skipped)
            continue
        chunk.found += waiting
        waiting.clear()
        chunk.after = replace(
            chunk.after, phase=step.phase, place=step.place, line=step.line, key=step.key, skipped=skipped
        )
        if len(chunk.found) >= CHUNK_ITEMS or time.monotonic() - began > CHUNK_SECONDS:
            yield chunk
            chunk, began = Chunk(chunk.after), time.monotonic()


def _steps_of(reading: Reading, progress: Progress) -> Iterator[Step]:
    if isinstance(reading.file, Bucket):
        yield from _object_steps(reading, reading.file, progress)
        return
    if reading.form is SourceForm.ARCHIVE:
        yield from _archive_steps(reading, reading.file, progress.place)
        return
    if progress.phase is Phase.LINES:
        yield from _line_steps(reading, reading.file, progress.place)
        progress = Progress(Phase.MEMBERS)
    if reading.beside is not None:
        yield from _beside_steps(reading, reading.file, reading.beside, progress)


def _object_steps(reading: Reading, bucket: Bucket, progress: Progress) -> Iterator[Step]:
    """The objects of a prefix; the keys before the places at which reading may go on are kept by these."""
    keys: dict[int, str] = {}

    def members() -> Iterator[Member]:
        for listed in read_prefix(
            bucket.client, bucket.prefix, reading.limits, place=progress.place, after=progress.key
        ):
            reading.step()
            keys[listed.member.place] = listed.before
            keys[listed.member.place + 1] = listed.key
            yield listed.member

    for entry in read_entries(members(), folder_labels=reading.folder_labels):
        key = "" if entry.behind is None else keys[entry.behind]
        if entry.behind is not None:
            for place in [place for place in keys if place < entry.behind]:
                del keys[place]
        found = None if entry.litter else _found(reading, entry)
        yield Step(Phase.MEMBERS, entry.behind, found, skipped=entry.litter, key=key)


def _archive_steps(reading: Reading, file: BinaryIO, place: int) -> Iterator[Step]:
    members = (member for member in _members(reading, file) if member.place >= place)
    for entry in read_entries(members, folder_labels=reading.folder_labels):
        found = None if entry.litter else _found(reading, entry)
        yield Step(Phase.MEMBERS, entry.behind, found, skipped=entry.litter)


def _line_steps(reading: Reading, file: BinaryIO, place: int) -> Iterator[Step]:
    """The lines that name images, and those that say nothing; those of files wait for the archive."""
    for line in read_manifest(file):
        reading.step()
        if line.number > place and (line.file is None or reading.beside is None):
            yield Step(Phase.LINES, line.number, _found_by(line, _picture_of(line)))


def _beside_steps(
    reading: Reading, manifest: BinaryIO, beside: BinaryIO, progress: Progress
) -> Iterator[Step]:
    with FileIndex(_lines(reading, manifest)) as index:
        yield (
            Step(Phase.MEMBERS, progress.place, line=progress.line)
            if progress.phase is Phase.MEMBERS
            else Step(Phase.MISSING, progress.place)
        )
        for member in _members(reading, beside):
            name = _name(member.name)
            first = index.meet(name)
            if progress.phase is Phase.MEMBERS and member.place >= progress.place:
                done = progress.line if member.place == progress.place else 0
                yield from _member_steps(reading, member, index.lines_of(name, done), first=first)
        after = progress.place if progress.phase is Phase.MISSING else 0
        yield Step(Phase.MISSING, after)
        for line in index.missing(after):
            reading.step()
            missing = MemberError(
                "file-missing",
                f"Line {line.number} of the manifest: there is no {quoted(line.file or '')} in the archive.",
            )
            yield Step(Phase.MISSING, line.number, _found_by(line, missing))


def _member_steps(reading: Reading, member: Member, lines: Iterator[Line], *, first: bool) -> Iterator[Step]:
    line = next(lines, None)
    if line is None:
        yield Step(Phase.MEMBERS, member.place + 1, skipped=True)
        return
    if not first:
        twice = MemberError("duplicate-member", f"{quoted(member.name)} is in the archive twice.")
        yield Step(Phase.MEMBERS, member.place + 1, Found(quoted(member.name), twice))
        return
    picture = _picture(reading, member)
    while line is not None:
        reading.step()
        following = next(lines, None)
        # a line at a time: all of a manifest may name one member
        place, done = (member.place + 1, 0) if following is None else (member.place, line.number)
        yield Step(Phase.MEMBERS, place, _found_by(line, picture), line=done)
        line = following


def _members(reading: Reading, file: BinaryIO) -> Iterator[Member]:
    for member in read_archive(file, reading.limits):
        reading.step()
        yield member


def _lines(reading: Reading, manifest: BinaryIO) -> Iterator[Line]:
    for line in read_manifest(manifest):
        reading.step()
        yield line if line.file is None else replace(line, file=_name(line.file))


def _found(reading: Reading, entry: Entry) -> Found:
    name = _name(entry.name)
    picture = entry.error or _stored(reading, name, entry.data or b"")
    unnamed = isinstance(picture, MemberError) and picture.code in UNNAMED
    return Found(quoted(name), picture, None if unnamed else name, entry.true_label)


def _found_by(line: Line, picture: Content | MemberError | None) -> Found:
    """What a line names, with what it says of it."""
    named = picture or line.image_id or line.sha256
    assert named is not None, "a line that names nothing has an error"
    name = f"Line {line.number} of the manifest"
    return Found(name, named, line.custom_id or line.file, line.true_label, line.split, line.true_labels)


def _picture_of(line: Line) -> MemberError | None:
    if line.file is None:
        return line.error
    return MemberError(
        "file-missing",
        f"Line {line.number} of the manifest names the file {quoted(line.file)}: send the archive beside it.",
    )


def _picture(reading: Reading, member: Member) -> Content | MemberError:
    try:
        return _stored(reading, _name(member.name), member.read())
    except MemberError as error:
        return error


def _stored(reading: Reading, name: str, data: bytes) -> Content | MemberError:
    """A picture in the store, if it is one from outside; what is inside, the decoder finds out."""
    try:
        media_type = inspect(data, reading.limits.member_bytes)
    except PictureError as error:
        return MemberError(error.code, f"{quoted(name)}: {error}")
    return Content(reading.keep(data), len(data), media_type)


def _name(name: str) -> str:
    # as `tar` writes what it was given as `.`
    return plain(name).removeprefix("./")
