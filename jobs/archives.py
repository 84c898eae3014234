"""Archives, whichever they are, as a stream of members."""

from collections.abc import Iterator
from typing import BinaryIO, Final

from jobs.errors import NotAnArchiveError
from jobs.members import ArchiveLimits, Member
from jobs.tars import read_tar
from jobs.zips import read_zip

HEAD_BYTES: Final = 8
OTHERS: Final = {
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!": "RAR",
}
"""What people pack by and this does not read, by its first bytes."""


def read_archive(file: BinaryIO, limits: ArchiveLimits | None = None) -> Iterator[Member]:
    """The files of a zip, tar or tar.gz archive, one after the other, told by its first bytes.

    What is wrong with one file is told when that is read; what is wrong with the archive, as soon as it is
    found: what came before it may be kept.

    Raises:
        NotAnArchiveError: it is none of these.
        ArchiveTruncatedError, ArchiveDamagedError: it is broken.
        TooManyMembersError, ArchiveTooLargeError, ArchiveRatioError: there is more of it than may be.
    """
    allowed = limits or ArchiveLimits()
    file.seek(0)
    head = file.read(HEAD_BYTES)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")):
        return read_zip(file, allowed)
    for magic, name in OTHERS.items():
        if head.startswith(magic):
            raise NotAnArchiveError(f"This is packed by {name}: pack it as zip, tar or tar.gz.")
    return read_tar(file, allowed, packed=head.startswith(b"\x1f\x8b"))
