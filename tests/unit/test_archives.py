"""Archives as streams of members: what is in them, what is refused of them, and how much they cost."""

import gzip
import io
import stat
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.archives import read_archive
from jobs.errors import (
    ArchiveDamagedError,
    ArchiveRatioError,
    ArchiveTooLargeError,
    ArchiveTruncatedError,
    DomainError,
    NotAnArchiveError,
    TooManyMembersError,
)
from jobs.members import ArchiveLimits, MemberError, check_name
from jobs.shards import read_entries
from tests.packed import add, patched, tar_gz_of, tar_of, tar_with, zip_of, zip_with_mode

FILES = {"a/1.png": b"one", "a/2.png": b"two" * 1000, "ä.png": b""}
CD_FLAGS, CD_SIZE, CD_LOCAL = 8, 24, 42
PACKERS: list[Callable[[Any], bytes]] = [zip_of, tar_of, tar_gz_of]


def found_in(archive: bytes, limits: ArchiveLimits | None = None) -> list[tuple[str, bytes | str]]:
    """Each member with its bytes, or with the code of what is wrong with it."""
    found: list[tuple[str, bytes | str]] = []
    for member in read_archive(io.BytesIO(archive), limits):
        try:
            found.append((member.name, member.read()))
        except MemberError as error:
            found.append((member.name, error.code))
    return found


def fault_of(archive: bytes, limits: ArchiveLimits | None = None) -> type[DomainError]:
    with pytest.raises(DomainError) as raised:
        found_in(archive, limits)
    return type(raised.value)


@pytest.mark.parametrize("pack", PACKERS)
def test_members_come_in_their_order_with_their_bytes(pack: Callable[[Any], bytes]) -> None:
    assert found_in(pack(FILES)) == list(FILES.items())


def test_members_that_are_not_read_are_passed_over() -> None:
    for pack in PACKERS:
        members = list(read_archive(io.BytesIO(pack(FILES))))
        assert [(member.place, member.name) for member in members] == list(enumerate(FILES))
    again = read_archive(io.BytesIO(tar_gz_of(FILES)))
    assert [member.read() for member in again if member.place == 1] == [FILES["a/2.png"]]


def test_packed_members_and_archives_of_several_parts_are_read() -> None:
    packed = zip_of(FILES, zipfile.ZIP_DEFLATED)
    assert found_in(packed) == list(FILES.items())
    # a second packed part follows the first: what `cat` makes of two
    half = len(tar_of(FILES)) // 2
    joined = gzip.compress(tar_of(FILES)[:half]) + gzip.compress(tar_of(FILES)[half:])
    assert found_in(joined) == list(FILES.items())
    assert found_in(tar_gz_of(FILES) + bytes(700)) == list(FILES.items())


def test_a_zip_archive_of_64_bit_records_is_read() -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive, archive.open("a.png", "w", force_zip64=True) as file:
        file.write(b"one")
    assert found_in(made.getvalue()) == [("a.png", b"one")]
    many = zip_of((f"{number}.png", b"") for number in range(65_600))
    assert sum(1 for _ in read_archive(io.BytesIO(many))) == 65_600


def test_folders_are_no_members_but_have_their_place() -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        add(archive, "folder", kind=tarfile.DIRTYPE)
        add(archive, "folder/a.png", b"one")
    (member,) = read_archive(io.BytesIO(made.getvalue()))
    assert (member.place, member.name) == (1, "folder/a.png")
    (member,) = read_archive(io.BytesIO(zip_of({"folder/": b"", "folder/a.png": b"one"})))
    assert (member.place, member.name) == (1, "folder/a.png")


@pytest.mark.parametrize(
    "name", ["../a.png", "a/../../b.png", "/etc/passwd", "..", "C:\\a.png", "a\\..\\b.png", "a\nb.png", "\\a"]
)
@pytest.mark.parametrize("pack", PACKERS)
def test_names_that_leave_the_archive_are_refused_alone(name: str, pack: Callable[[Any], bytes]) -> None:
    found = found_in(pack([(name, b"bad"), ("good.png", b"good")]))
    assert [result for _, result in found] == ["member-unsafe-name", b"good"]


def test_names_that_are_too_long_or_too_deep_are_refused_alone() -> None:
    files = {"a" * 501: b"", "/".join("a" * 33): b"", "a/b.png": b"good"}
    for pack in PACKERS:
        codes = [result for _, result in found_in(pack(files))]
        assert codes == ["member-name-too-long", "member-too-deep", b"good"]


@given(st.text(max_size=40))
def test_no_name_that_is_taken_leads_out_of_a_folder(name: str) -> None:
    try:
        check_name(name, ArchiveLimits())
    except MemberError as error:
        # it can be stored and shown
        error.message.encode()
        return
    name.encode()
    assert "\x00" not in name
    for separator in ("/", "\\"):
        parts = name.split(separator)
        assert ".." not in parts
        assert parts[0] != ""
    assert name[1:2] != ":" or not name[0].isalpha()


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=20), max_size=6, unique=True))
def test_every_name_of_an_archive_is_told(names: list[str]) -> None:
    # zip cuts a name at NUL, and what ends in a slash is a folder
    names = [name for name in names if "\x00" not in name and not name.endswith(("/", "\\"))]
    for pack in (zip_of, tar_of):
        found = found_in(pack([(name, b"x") for name in names]))
        assert [name for name, _ in found] == names
        assert all(result == b"x" or str(result).startswith("member-") for _, result in found)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (tarfile.SYMTYPE, "member-link"),
        (tarfile.LNKTYPE, "member-link"),
        (tarfile.CHRTYPE, "member-not-a-file"),
        (tarfile.BLKTYPE, "member-not-a-file"),
        (tarfile.FIFOTYPE, "member-not-a-file"),
    ],
)
def test_links_and_devices_of_a_tar_archive_are_refused_alone(kind: bytes, code: str) -> None:
    assert found_in(tar_with(kind)) == [("odd", code), ("good.png", b"good")]


@pytest.mark.parametrize(
    ("mode", "code"),
    [(stat.S_IFLNK, "member-link"), (stat.S_IFCHR, "member-not-a-file"), (stat.S_IFIFO, "member-not-a-file")],
)
def test_links_and_devices_of_a_zip_archive_are_refused_alone(mode: int, code: str) -> None:
    assert found_in(zip_with_mode(mode)) == [("odd", code), ("good.png", b"good")]


def test_encrypted_members_and_those_of_other_methods_are_refused_alone() -> None:
    whole = zip_of({"a.png": b"one", "b.png": b"two"})
    assert found_in(patched(whole, 0, CD_FLAGS, "<H", 1)) == [
        ("a.png", "member-encrypted"),
        ("b.png", b"two"),
    ]
    other = zip_of({"a.png": b"one"}, zipfile.ZIP_LZMA)
    assert found_in(other) == [("a.png", "member-packed-otherwise")]
    strong = patched(whole, 0, CD_FLAGS, "<H", 0x40)
    assert found_in(strong) == [("a.png", "member-damaged"), ("b.png", b"two")]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_header_that_lies_about_a_size_costs_its_member_alone(method: int) -> None:
    whole = zip_of({"a.png": b"one" * 100, "b.png": b"two"}, method)
    smaller = found_in(patched(whole, 0, CD_SIZE, "<L", 10))
    assert smaller == [("a.png", "member-damaged"), ("b.png", b"two")]
    larger = found_in(patched(whole, 0, CD_SIZE, "<L", 1000))
    assert larger == [("a.png", "member-size-differs"), ("b.png", b"two")]
    huge = found_in(patched(whole, 0, CD_SIZE, "<L", 2**31))
    assert huge == [("a.png", "member-too-large"), ("b.png", b"two")]
    elsewhere = found_in(patched(whole, 0, CD_LOCAL, "<L", 2**31))
    assert elsewhere == [("a.png", "member-damaged"), ("b.png", b"two")]


def test_a_member_whose_bytes_changed_is_refused_alone() -> None:
    whole = bytearray(zip_of({"a.png": b"one", "b.png": b"two"}))
    whole[whole.index(b"one")] ^= 1
    assert found_in(bytes(whole)) == [("a.png", "member-damaged"), ("b.png", b"two")]


def test_a_bomb_in_a_zip_archive_is_refused_before_it_is_unpacked() -> None:
    bomb = zip_of({"a.bmp": bytes(20 * 2**20), "b.png": b"two"}, zipfile.ZIP_DEFLATED)
    assert found_in(bomb) == [("a.bmp", "member-ratio"), ("b.png", b"two")]
    # two that lie in the same bytes count twice
    twice = ArchiveLimits(total_bytes=3)
    assert fault_of(zip_of({"a": b"one", "b": b"two"}), twice) is ArchiveTooLargeError


def test_a_bomb_in_a_packed_tar_archive_ends_it() -> None:
    tracemalloc.start()
    bomb = gzip.compress(tar_of({"a.bmp": bytes(60 * 2**20), "b.png": b"two"}))
    tracemalloc.reset_peak()
    assert fault_of(bomb) is ArchiveRatioError
    assert tracemalloc.get_traced_memory()[1] < 8 * 2**20 + len(bomb)
    tracemalloc.stop()


@pytest.mark.parametrize("pack", PACKERS)
def test_more_members_or_bytes_than_may_be_end_the_archive(pack: Callable[[Any], bytes]) -> None:
    assert fault_of(pack(FILES), ArchiveLimits(members=2)) is TooManyMembersError
    assert fault_of(pack(FILES), ArchiveLimits(total_bytes=2000)) is ArchiveTooLargeError
    few = found_in(pack(FILES), ArchiveLimits(member_bytes=2999))
    assert [result for _, result in few] == [b"one", "member-too-large", b""]


def test_a_list_of_members_that_says_fewer_than_there_are_is_damaged() -> None:
    whole = bytearray(zip_of(FILES))
    end = whole.index(b"PK\x05\x06")
    whole[end + 10 : end + 12] = b"\x02\x00"
    assert fault_of(bytes(whole)) is ArchiveDamagedError


def test_what_ends_early_says_so() -> None:
    whole = zip_of(FILES)
    assert fault_of(whole[:-30]) is ArchiveTruncatedError
    plain = tar_of(FILES)
    assert fault_of(plain[: 512 + 512 + 512 + 100]) is ArchiveTruncatedError
    # at the border of a member: the end marker is missing
    assert fault_of(plain[:1024]) is ArchiveTruncatedError
    assert fault_of(tar_gz_of(FILES)[:-40]) is ArchiveTruncatedError


def test_what_comes_before_the_damage_is_read() -> None:
    plain = bytearray(tar_of(FILES))
    plain[1024 + 148] ^= 0xFF  # the sum over the second header
    read: list[bytes] = []
    with pytest.raises(ArchiveDamagedError, match="Behind 1 members"):
        read.extend(member.read() for member in read_archive(io.BytesIO(plain)))
    assert read == [b"one"]
    packed = bytearray(tar_gz_of(FILES))
    packed[len(packed) // 2] ^= 0xFF
    assert fault_of(bytes(packed)) in {ArchiveDamagedError, NotAnArchiveError}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no archive",
        b"\x89PNG\r\n\x1a\n" + bytes(600),
        b"BZh91AY",
        b"Rar!\x1a\x07",
        # without the time, by which workers that collect tests a second apart would name it otherwise
        gzip.compress(b"x" * 999, mtime=0),
    ],
)
def test_what_is_no_archive_says_what_to_send(data: bytes) -> None:
    with pytest.raises(NotAnArchiveError, match=r"zip, tar or tar\.gz"):
        found_in(data)


def test_a_header_that_announces_gigabytes_is_not_read() -> None:
    info = tarfile.TarInfo("long")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2**33
    plain = tar_of({"a.png": b"one"})[:1024] + info.tobuf(tarfile.GNU_FORMAT) + bytes(4096)
    assert fault_of(plain) is ArchiveDamagedError


def test_a_member_that_announces_more_than_there_is_ends_the_archive() -> None:
    info = tarfile.TarInfo("long")
    info.size = 2**62
    whole = info.tobuf(tarfile.GNU_FORMAT) + bytes(2048)
    found: list[str] = []
    with pytest.raises(ArchiveTruncatedError):
        found.extend(member.name for member in read_archive(io.BytesIO(whole)))
    assert found == ["long"]


@given(st.binary(max_size=400), st.integers(0, 2**32), st.sampled_from(PACKERS))
def test_noise_in_an_archive_raises_nothing_unknown(
    noise: bytes, at: int, pack: Callable[[Any], bytes]
) -> None:
    whole = bytearray(pack(FILES))
    at %= len(whole)
    whole[at : at + len(noise)] = noise
    with suppress(DomainError):
        found_in(bytes(whole))


@pytest.mark.parametrize("pack", PACKERS)
def test_memory_does_not_grow_with_the_members(pack: Callable[[Any], bytes]) -> None:
    def peak_of(members: int) -> int:
        archive = io.BytesIO(pack((f"folder/{number:06}.png", b"x" * 100) for number in range(members)))
        tracemalloc.start()
        assert sum(1 for entry in read_entries(read_archive(archive)) if entry.data) == members
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert peak_of(20_000) < peak_of(200) + 2**18
