"""Reading zip archives a member at a time, however many there are.

`zipfile` holds the list of all members: hundreds of bytes each, before the first is read. So it is given one
record of that list at a time: a file with the archive's bytes, and behind them a list of one. Formats as in
PKWARE's APPNOTE.TXT 6.3.10, sections 4.3.12 to 4.3.16.
"""

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, Final

from jobs.errors import ArchiveDamagedError, ArchiveTruncatedError, TooManyMembersError
from jobs.members import ArchiveLimits, Budget, Member, MemberError, check_name, check_size, damaged, quoted

END: Final = struct.Struct("<4s4H2LH")
END_64: Final = struct.Struct("<4sQ2H2L4Q")
LOCATOR_64: Final = struct.Struct("<4sLQL")
RECORD: Final = struct.Struct("<4s6H3L5H2L")
LENGTHS: Final = slice(10, 13)
"""Of a record's fields, how long its name, its extra field and its comment are."""
MAX_COMMENT: Final = 0xFFFF
UTF_8: Final = 0x800
ENCRYPTED: Final = 0x1
UNIX: Final = 3
READ_BYTES: Final = 2**16

BROKEN: Final = (
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
    zlib.error,
    EOFError,
    struct.error,
    ValueError,
    OverflowError,
)
"""What `zipfile` raises of a member that is not what it should be."""


@dataclass(frozen=True, slots=True)
class Directory:
    """Where the list of members lies in the file, where the archive says it does, and what it says of it."""

    start: int
    said_start: int
    size: int
    members: int


def read_zip(file: BinaryIO, limits: ArchiveLimits) -> Iterator[Member]:
    """The files of a zip archive in the order of its list; one record of it is held at a time.

    Raises:
        ArchiveTruncatedError: its end is missing.
        ArchiveDamagedError: its list of members is not one.
        TooManyMembersError, ArchiveTooLargeError: there is more of it than may be.
    """
    directory = _find_directory(file)
    if directory.members > limits.members:
        raise TooManyMembersError(
            f"The archive has {directory.members} members, {limits.members} may be: send it in parts."
        )
    budget = Budget(limits)
    count = 0
    for count, record in enumerate(_records(file, directory), start=1):
        if count > limits.members:
            raise TooManyMembersError(
                f"The archive has more than {limits.members} members: send it in parts."
            )
        member = _member(file, directory, record, count - 1, limits, budget)
        if member is not None:
            yield member
    if count != directory.members:
        raise ArchiveDamagedError(
            f"The archive says that it has {directory.members} members, and lists {count}: pack it again."
        )


def _member(
    file: BinaryIO, directory: Directory, record: bytes, place: int, limits: ArchiveLimits, budget: Budget
) -> Member | None:
    """The member of a record; None for a folder."""
    try:
        opened = zipfile.ZipFile(_Window(file, directory, record))  # holds no file of its own
        (info,) = opened.infolist()
    except BROKEN as error:
        name = _raw_name(record)
        return Member(place, name, partial(_refuse, damaged(name, _short(error))))
    if info.is_dir():
        return None
    name = _name(info)
    try:
        _check(info, name, limits)
    except MemberError as error:
        return Member(place, name, partial(_refuse, error))
    budget.spend(info.file_size)
    return Member(place, name, partial(_read, opened, info, name))


def _check(info: zipfile.ZipInfo, name: str, limits: ArchiveLimits) -> None:
    check_name(name, limits)
    kind = stat.S_IFMT(info.external_attr >> 16) if info.create_system == UNIX else 0
    if kind == stat.S_IFLNK:
        raise MemberError("member-link", f"{quoted(name)} is a link: pack the file itself.")
    if kind not in {0, stat.S_IFREG}:
        raise MemberError("member-not-a-file", f"{quoted(name)} is a device or pipe, no file.")
    if info.flag_bits & ENCRYPTED:
        raise MemberError("member-encrypted", f"{quoted(name)} is encrypted: pack it without a password.")
    if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        # of the others `zipfile` unpacks as much at once as there is
        raise MemberError(
            "member-packed-otherwise", f"{quoted(name)} is packed by another method than deflate."
        )
    check_size(name, info.file_size, info.compress_size, limits)


def _read(opened: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> bytes:
    """The bytes of a member: never more than its header says, which was checked."""
    try:
        with opened.open(info) as file:
            data = b"".join(iter(partial(file.read, READ_BYTES), b""))
    except BROKEN as error:
        raise damaged(name, _short(error)) from None
    if len(data) != info.file_size:
        raise MemberError(
            "member-size-differs",
            f"{quoted(name)} has {len(data)} bytes where its header says {info.file_size}: pack it again.",
        )
    return data


def _refuse(error: MemberError) -> bytes:
    raise error


def _find_directory(file: BinaryIO) -> Directory:
    size = file.seek(0, io.SEEK_END)
    tail_at = max(0, size - MAX_COMMENT - END.size)
    file.seek(tail_at)
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + END.size > len(tail):
        raise ArchiveTruncatedError(
            "The archive ends before the list of its members, which is its last part: send the whole file."
        )
    _, disk, first_disk, _, members, length, said_start, _ = END.unpack_from(tail, at)
    end_at = tail_at + at
    if (found := _end_64(file, end_at)) is not None:
        end_at -= LOCATOR_64.size + END_64.size
        _, _, _, _, disk, first_disk, _, members, length, said_start = found
    if disk or first_disk:
        raise ArchiveDamagedError("The archive is one of several parts: send it as one file.")
    start = end_at - length
    if start < said_start:
        raise ArchiveDamagedError(
            "The list of the archive's members is not where it says: pack it again, or send the whole file."
        )
    return Directory(start, said_start, length, members)


def _end_64(file: BinaryIO, end_at: int) -> tuple[int, ...] | None:
    """The end record of 64 bits, if there is one, as `zipfile` finds it."""
    locator_at = end_at - LOCATOR_64.size
    if locator_at < END_64.size:
        return None
    file.seek(locator_at)
    if not file.read(LOCATOR_64.size).startswith(b"PK\x06\x07"):
        return None
    file.seek(locator_at - END_64.size)
    record = file.read(END_64.size)
    return END_64.unpack(record) if record.startswith(b"PK\x06\x06") else None


def _records(file: BinaryIO, directory: Directory) -> Iterator[bytes]:
    at, end = directory.start, directory.start + directory.size
    while at < end:
        file.seek(at)
        head = file.read(RECORD.size)
        if len(head) < RECORD.size or not head.startswith(b"PK\x01\x02"):
            raise ArchiveDamagedError("The list of the archive's members is damaged: pack it again.")
        record = head + file.read(sum(RECORD.unpack(head)[LENGTHS]))
        at += len(record)
        if at > end:
            raise ArchiveDamagedError("The list of the archive's members is damaged: pack it again.")
        yield record


class _Window(io.RawIOBase):
    """The bytes of an archive up to its list of members, and behind them a list of one."""

    def __init__(self, file: BinaryIO, directory: Directory, record: bytes) -> None:
        self._file = file
        self._start = directory.start
        end_64 = END_64.pack(
            b"PK\x06\x06", END_64.size - 12, 45, 45, 0, 0, 1, 1, len(record), directory.said_start
        )
        locator = LOCATOR_64.pack(b"PK\x06\x07", 0, directory.start + len(record), 1)
        end = END.pack(b"PK\x05\x06", 0, 0, 1, 1, 0xFFFFFFFF, 0xFFFFFFFF, 0)
        self._tail = record + end_64 + locator + end
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._start + len(self._tail)}[whence]
        if base + offset < 0:
            raise ValueError("a seek before the begin")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # RawIOBase.read calls it so
        if self._at < self._start:
            self._file.seek(self._at)
            data = self._file.read(min(len(buffer), self._start - self._at))
        else:
            behind = self._at - self._start
            data = self._tail[behind : behind + len(buffer)]
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _name(info: zipfile.ZipInfo) -> str:
    """The name as it was meant: many write UTF-8 without saying so, which reads as an old code page."""
    name = info.orig_filename
    if info.flag_bits & UTF_8:
        return name
    try:
        return name.encode("cp437").decode()
    except UnicodeError:
        return name


def _raw_name(record: bytes) -> str:
    length = RECORD.unpack_from(record)[LENGTHS][0]
    return record[RECORD.size : RECORD.size + length].decode(errors="replace")


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]
