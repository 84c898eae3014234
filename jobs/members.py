"""What an archive is read as: members one after the other, each with a name and a way to read it, in limits.

Nothing is ever written to disk by a member's name; a name is text, and what is wrong with it is told.
"""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from jobs.errors import ArchiveTooLargeError
from pictures.decode import DEFAULT_LIMITS

MAX_NAME: Final = 500
"""As long as a custom_id may be."""
SHOWN: Final = 200
RATIO_FREE_BYTES: Final = 2**20
"""A member that unpacks to no more may be packed as tightly as it likes."""
ARCHIVES: Final = (
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zXZ\x00",
    b"\x28\xb5\x2f\xfd",
    b"7z\xbc\xaf\x27\x1c",
    b"Rar!",
)
LITTER: Final = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
ARCHIVE_SUFFIXES: Final = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """How much is read of one archive.

    `ratio` is that of unpacked to packed bytes, `depth` the number of folders above a member with itself;
    archives in archives are not read at all.
    """

    members: int = 2_000_000
    member_bytes: int = DEFAULT_LIMITS.image_bytes
    total_bytes: int = 64 * 2**30
    ratio: int = 200
    depth: int = 32


class MemberError(Exception):
    """Why one member cannot be taken: a stable code, and a message that names it."""

    def __init__(self, code: str, message: str) -> None:
        """Keep both."""
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Member:
    """A file of an archive: the how manieth of its entries it is, folders counted too, and its name.

    `read` returns its bytes, or raises what is wrong with it (`MemberError`); to be called, if at all, before
    the next member is asked for.
    """

    place: int
    name: str
    read: Callable[[], bytes]


class Budget:
    """What may still be unpacked of an archive."""

    def __init__(self, limits: ArchiveLimits) -> None:
        """All of it."""
        self._limits = limits
        self._left = limits.total_bytes

    def spend(self, size: int) -> None:
        """Count bytes that are unpacked.

        Raises:
            ArchiveTooLargeError: they are more than may be.
        """
        self._left -= size
        if self._left < 0:
            raise too_large(self._limits)


def too_large(limits: ArchiveLimits) -> ArchiveTooLargeError:
    """The error of an archive that unpacks to more than it may."""
    return ArchiveTooLargeError(
        f"The archive unpacks to more than {limits.total_bytes} bytes: send it in parts."
    )


def plain(name: str) -> str:
    """A name that can be stored and shown: NUL, lone surrogates and control characters are escaped."""
    return "".join(
        f"\\x{ord(character):02x}" if unicodedata.category(character) in {"Cc", "Cs"} else character
        for character in name
    )


def quoted(name: str) -> str:
    """A name as messages show it."""
    shown = plain(name)
    return repr(shown if len(shown) <= SHOWN else shown[:SHOWN] + "…")


def check_name(name: str, limits: ArchiveLimits) -> None:
    """Refuse names that are no path below the archive, whatever system reads them.

    Raises:
        MemberError: it is one.
    """
    if len(name) > MAX_NAME:
        raise MemberError(
            "member-name-too-long", f"The name {quoted(name)} has {len(name)} characters, {MAX_NAME} may be."
        )
    parts = name.replace("\\", "/").split("/")
    if not name or ".." in parts or parts[0] == "" or _is_drive(parts[0]) or plain(name) != name:
        raise MemberError(
            "member-unsafe-name",
            f"{quoted(name)} names nothing below the archive: a name is relative, without `..` or control"
            " characters.",
        )
    if len(parts) > limits.depth:
        raise MemberError(
            "member-too-deep", f"{quoted(name)} lies {len(parts)} levels deep, {limits.depth} may be."
        )


def check_size(name: str, size: int, packed: int | None, limits: ArchiveLimits) -> None:
    """Refuse a member by what its header says of its size.

    Raises:
        MemberError: it is too large, or unpacks to so much more than it is packed to.
    """
    if size > limits.member_bytes:
        raise MemberError(
            "member-too-large", f"{quoted(name)} has {size} bytes, {limits.member_bytes} may be."
        )
    if packed is not None and size > RATIO_FREE_BYTES and size > limits.ratio * packed:
        raise MemberError(
            "member-ratio",
            f"{quoted(name)} unpacks to {size} bytes from {packed}, more than {limits.ratio} to 1: store it"
            " unpacked.",
        )


def damaged(name: str, why: str) -> MemberError:
    """The error of a member whose bytes are not what its header says."""
    return MemberError("member-damaged", f"{quoted(name)} cannot be unpacked ({why}): pack it again.")


def is_archive(name: str, head: bytes) -> bool:
    """Whether a member is an archive itself, by its first bytes or by its name."""
    named_so = name.lower().endswith(ARCHIVE_SUFFIXES)
    return named_so or head.startswith(ARCHIVES) or head[257:262] == b"ustar"


def is_litter(name: str) -> bool:
    """Whether systems leave such files beside others, unasked: they are nobody's pictures."""
    # no path object: those remember the parts of every name for good
    *folders, base = name.split("/")
    return "__MACOSX" in folders or base in LITTER or base.startswith("._")


def _is_drive(part: str) -> bool:
    return len(part) >= 2 and part[1] == ":" and part[0].isalpha()  # noqa: PLR2004 - C:
