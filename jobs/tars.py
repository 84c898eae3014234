"""Reading tar archives, plain or packed by gzip, from their begin to their end.

`tarfile` reads what a header announces as a whole, and takes the end of the bytes for the end of the archive:
the file that it is given bounds the one, and shows the other.
"""

import tarfile
import zlib
from collections.abc import Iterator
from functools import partial
from typing import BinaryIO, Final, Protocol

from jobs.errors import (
    ArchiveDamagedError,
    ArchiveRatioError,
    ArchiveTruncatedError,
    NotAnArchiveError,
    TooManyMembersError,
)
from jobs.members import (
    RATIO_FREE_BYTES,
    ArchiveLimits,
    Budget,
    Member,
    MemberError,
    check_name,
    check_size,
    quoted,
    too_large,
)

BLOCK: Final = 512
HEADER_BYTES: Final = 2**20
"""All that is read of a member before its bytes: its header, long names and further attributes."""
PIECE: Final = 2**16


def read_tar(file: BinaryIO, limits: ArchiveLimits, *, packed: bool) -> Iterator[Member]:
    """The files of a tar archive in their order; `packed` by gzip.

    Raises:
        NotAnArchiveError: it does not begin as one.
        ArchiveTruncatedError: its end is missing.
        ArchiveDamagedError: what comes behind a member is not one.
        ArchiveRatioError, TooManyMembersError, ArchiveTooLargeError: there is more of it than may be.
    """
    ahead = _Ahead(_Unpacking(file, limits) if packed else _Bytes(file))
    archive = _open(ahead)
    budget = Budget(limits)
    place = 0
    while (info := _next(archive, ahead)) is not None:
        if place >= limits.members:
            raise TooManyMembersError(
                f"The archive has more than {limits.members} members: send it in parts."
            )
        # what it would remember of all of them
        archive.members.clear()  # type: ignore[attr-defined]  # its types leave it out
        archive.pax_headers = {}
        if not info.isdir():
            yield _member(ahead, info, place, limits, budget)
        place += 1
    if ahead.last != bytes(BLOCK):
        if len(ahead.last) < BLOCK:
            raise ArchiveTruncatedError(f"The archive ends early, behind {place} members: send it whole.")
        raise ArchiveDamagedError(f"Behind {place} members the archive is damaged: pack it again.")


def _member(
    ahead: "_Ahead", info: tarfile.TarInfo, place: int, limits: ArchiveLimits, budget: Budget
) -> Member:
    try:
        _check(info, limits)
    except MemberError as error:
        return Member(place, info.name, partial(_refuse, error))
    budget.spend(info.size)
    return Member(place, info.name, partial(_read, ahead, info.offset_data, info.size))


def _check(info: tarfile.TarInfo, limits: ArchiveLimits) -> None:
    check_name(info.name, limits)
    if info.issym() or info.islnk():
        raise MemberError("member-link", f"{quoted(info.name)} is a link: pack the file itself.")
    if not info.isreg():
        raise MemberError("member-not-a-file", f"{quoted(info.name)} is a device or pipe, no file.")
    if info.sparse is not None:
        raise MemberError(
            "member-packed-otherwise", f"{quoted(info.name)} is stored with holes: pack it without --sparse."
        )
    check_size(info.name, info.size, None, limits)


def _read(ahead: "_Ahead", offset: int, size: int) -> bytes:
    ahead.allow(size)
    ahead.seek(offset)
    data = ahead.read(size)
    if len(data) < size:
        raise ArchiveTruncatedError("The archive ends in the midst of a member: send it whole.")
    return data


def _refuse(error: MemberError) -> bytes:
    raise error


def _open(ahead: "_Ahead") -> tarfile.TarFile:
    ahead.allow(HEADER_BYTES)
    try:
        return tarfile.TarFile(
            # it asks no more of a file than this one has
            fileobj=ahead,  # type: ignore[arg-type]
            mode="r",
            encoding="utf-8",
            errors="surrogateescape",
        )
    except (tarfile.TarError, RecursionError, ValueError):
        raise NotAnArchiveError from None


def _next(archive: tarfile.TarFile, ahead: "_Ahead") -> tarfile.TarInfo | None:
    ahead.allow(HEADER_BYTES)
    try:
        return archive.next()
    except tarfile.ReadError as error:
        if "unexpected end" in str(error):
            raise ArchiveTruncatedError("The archive ends in the midst of a member: send it whole.") from None
        raise ArchiveDamagedError from None
    except (tarfile.TarError, RecursionError, ValueError):
        raise ArchiveDamagedError from None


class _Source(Protocol):
    def read(self, size: int, /) -> bytes: ...

    def skip(self, size: int, /) -> None: ...


class _Ahead:
    """A file that is read forwards alone, and of which no more is read at once than was allowed."""

    def __init__(self, source: _Source) -> None:
        self._source = source
        self._at = 0
        self._allowed = 0
        self.last = b""
        """What was read last."""

    def allow(self, size: int) -> None:
        """So many bytes may be read until this is called again; what is skipped does not count."""
        self._allowed = size

    def read(self, size: int) -> bytes:
        self._allowed -= size
        if self._allowed < 0:
            raise ArchiveDamagedError("A header of the archive is larger than any should be: pack it again.")
        self.last = self._source.read(size)
        self._at += len(self.last)
        return self.last

    def seek(self, to: int) -> int:
        if to < self._at:
            raise ArchiveDamagedError("A header of the archive points backwards: pack it again.")
        self._source.skip(to - self._at)
        self._at = to
        return to

    def tell(self) -> int:
        return self._at


class _Bytes:
    """The bytes of a plain archive."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        file.seek(0)

    def read(self, size: int) -> bytes:
        return self._file.read(size)

    def skip(self, size: int) -> None:
        try:
            self._file.seek(size, 1)
        except (OSError, OverflowError):
            # farther than any file reaches
            raise ArchiveTruncatedError from None


class _Unpacking:
    """The bytes of a packed archive, unpacked a piece at a time and within the limits."""

    def __init__(self, file: BinaryIO, limits: ArchiveLimits) -> None:
        self._file = file
        file.seek(0)
        self._limits = limits
        self._unpacker = zlib.decompressobj(wbits=31)
        self._packed = b""
        self._read = self._made = 0
        self._ready = bytearray()

    def read(self, size: int) -> bytes:
        while len(self._ready) < size and (piece := self._piece()):
            self._ready += piece
        taken = bytes(self._ready[:size])
        del self._ready[:size]
        return taken

    def skip(self, size: int) -> None:
        while size > 0 and (piece := self.read(min(size, PIECE))):
            size -= len(piece)

    def _piece(self) -> bytes:
        """What comes next; empty at the end."""
        while True:
            if self._unpacker.eof and not self._begin_next():
                return b""
            packed = self._packed or self._more()
            if not packed:
                raise ArchiveTruncatedError("The packed archive ends early: send it whole.")
            try:
                piece = self._unpacker.decompress(packed, PIECE)
            except zlib.error:
                raise ArchiveDamagedError("The archive cannot be unpacked: pack it again.") from None
            self._packed = self._unpacker.unused_data or self._unpacker.unconsumed_tail
            self._made += len(piece)
            self._check()
            if piece:
                return piece

    def _begin_next(self) -> bool:
        """Whether another packed part follows the one that has ended."""
        self._packed = (self._packed or self._more()).lstrip(b"\x00")
        if not self._packed.startswith(b"\x1f"):
            return False
        self._unpacker = zlib.decompressobj(wbits=31)
        return True

    def _more(self) -> bytes:
        data = self._file.read(PIECE)
        self._read += len(data)
        return data

    def _check(self) -> None:
        if self._made > max(RATIO_FREE_BYTES, self._limits.ratio * self._read):
            raise ArchiveRatioError(
                f"The archive unpacks to more than {self._limits.ratio} times its size: pack it without"
                " compression."
            )
        # names and padding come on top of the members
        if self._made > 2 * self._limits.total_bytes + BLOCK * BLOCK:
            raise too_large(self._limits)
