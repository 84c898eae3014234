"""Archives that tests make: well packed ones, and hand-made lies."""

import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Iterable, Mapping

CENTRAL = b"PK\x01\x02"


def zip_of(
    files: Mapping[str, bytes] | Iterable[tuple[str, bytes]], method: int = zipfile.ZIP_STORED
) -> bytes:
    """A zip archive of names and contents."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, data in dict(files).items() if isinstance(files, Mapping) else files:
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return made.getvalue()


def tar_of(files: Mapping[str, bytes] | Iterable[tuple[str, bytes]]) -> bytes:
    """A tar archive of names and contents."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, data in dict(files).items() if isinstance(files, Mapping) else files:
            add(archive, name, data)
    return made.getvalue()


def tar_gz_of(files: Mapping[str, bytes] | Iterable[tuple[str, bytes]]) -> bytes:
    """The same, packed."""
    return gzip.compress(tar_of(files))


def add(archive: tarfile.TarFile, name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE) -> None:
    """Add a member of any kind."""
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data), kind, "target"
    archive.addfile(info, io.BytesIO(data))


def tar_with(kind: bytes, name: str = "odd") -> bytes:
    """A tar archive of a member that is no file, and a file behind it."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        add(archive, name, kind=kind)
        add(archive, "good.png", b"good")
    return made.getvalue()


def zip_with_mode(mode: int) -> bytes:
    """A zip archive of a member that Unix takes for something else than a file."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        info = zipfile.ZipInfo("odd")
        info.create_system, info.external_attr = 3, mode << 16
        archive.writestr(info, b"target")
        archive.writestr("good.png", b"good")
    return made.getvalue()


def patched(archive: bytes, place: int, offset: int, form: str, value: int) -> bytes:
    """A zip archive in which a field of a record of its list says something else; `offset` as in APPNOTE."""
    changed = bytearray(archive)
    at = -1
    for _ in range(place + 1):
        at = archive.index(CENTRAL, at + 1)
    struct.pack_into(form, changed, at + offset, value)
    return bytes(changed)
