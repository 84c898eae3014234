"""Bytes on disk, apart for every tenant: pictures by their content, and objects of work units."""

import errno
import fcntl
import hashlib
import os
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path

from jobs.errors import BlobMissingError, BlobStoreFullError, BlobStoreMissingError

SENTINEL = ".lensqueue-blobs"
DRAFTS = ".drafts"
DRAFTS_KEPT = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class BlobStore:
    """A folder of blobs: `<folder>/<tenant>/<first two of sha256>/<sha256>`, and objects beside them.

    What is being written lies in a folder of its own, in which that of killed processes is found again.
    """

    folder: Path

    def create(self) -> None:
        """Make the folder and leave the sentinel that tells it from an empty mount point."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.folder / SENTINEL).touch(mode=0o600)

    def check(self) -> None:
        """Refuse a folder without the sentinel: a bad mount must stop a worker, not fail its pictures.

        Raises:
            BlobStoreMissingError: the folder was never created, or another one is mounted over it.
        """
        if not (self.folder / SENTINEL).is_file():
            raise BlobStoreMissingError(
                f"{self.folder} is not a blob store: is the volume mounted, and has `lensqueue migrate` run?"
            )

    def put(self, tenant: str, data: bytes) -> str:
        """Store the bytes durably (written, synced, then renamed into place) and return their SHA-256.

        Bytes that are there already are touched, so that no removal that is under way takes them.

        Raises:
            BlobStoreFullError: the disk or its quota is full.
        """
        sha256 = hashlib.sha256(data).hexdigest()
        target = self._path(tenant, sha256)
        if not _touch(target):
            self.write(target, [data])
        return sha256

    def get(self, tenant: str, sha256: str) -> bytes:
        """The stored bytes.

        Raises:
            BlobMissingError: nothing is stored under this hash for this tenant.
            BlobStoreMissingError: nothing is stored at all: the store is not there.
        """
        try:
            return self._path(tenant, sha256).read_bytes()
        except FileNotFoundError:
            self.check()
            raise BlobMissingError from None

    def write(self, target: Path, parts: Iterable[bytes]) -> None:
        """Write a file of the store that is there whole or not at all, and stays: synced, then renamed.

        Raises:
            BlobStoreFullError: the disk or its quota is full.
            BlobStoreMissingError: the store is not there; written beside it, nobody would find it again.
        """
        draft = self.folder / DRAFTS / uuid.uuid4().hex
        try:
            self._write(draft, target, parts)
        except BaseException as error:
            draft.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise BlobStoreFullError from error
            raise

    def _write(self, draft: Path, target: Path, parts: Iterable[bytes]) -> None:
        # every look at the disk lets go of the interpreter, and waits to have it again: first without a look
        try:
            _write_synced(draft, parts)
            draft.rename(target)
        except FileNotFoundError:
            self.check()
            self.make_folder(draft.parent)
            self.make_folder(target.parent)
            if not draft.exists():
                # it was not begun: no part is gone
                _write_synced(draft, parts)
            draft.rename(target)
        sync_folder(target.parent)

    def remove(self, tenant: str, sha256: str, *, untouched: timedelta) -> bool:
        """Remove bytes that nobody stored for a while; False, and they stay, when somebody has."""
        target = self._path(tenant, sha256)
        try:
            with _locked(target.parent, fcntl.LOCK_EX):
                if time.time() - target.stat().st_mtime < untouched.total_seconds():
                    return False
                target.unlink()
        except FileNotFoundError:
            return True
        # the row goes next: were the file to come back after a power cut, nobody would know of it
        sync_folder(target.parent)
        return True

    def remove_drafts(self) -> int:
        """Remove what was left half written by processes that were killed; returns how many files."""
        removed = 0
        for draft in (self.folder / DRAFTS).glob("*"):
            with suppress(FileNotFoundError):
                if time.time() - draft.stat().st_mtime > DRAFTS_KEPT.total_seconds():
                    draft.unlink()
                    removed += 1
        return removed

    def room(self, tenant: str) -> Path:
        """The folder of all that is a tenant's."""
        return _room(self.folder, tenant)

    def check_room(self, size_bytes: int) -> None:
        """Refuse what there is no room for, before it is sent.

        Raises:
            BlobStoreFullError: the disk has less.
            BlobStoreMissingError: the store is not there.
        """
        self.check()
        disk = os.statvfs(self.folder)
        if size_bytes > disk.f_bavail * disk.f_frsize:
            raise BlobStoreFullError

    def make_folder(self, folder: Path) -> None:
        """Make a folder of the store, and those above it, durably."""
        # never the store itself: where it is gone, a volume is not mounted
        if folder != self.folder and not folder.is_dir():
            self.make_folder(folder.parent)
            folder.mkdir(mode=0o700, exist_ok=True)
            sync_folder(folder.parent)

    def _path(self, tenant: str, sha256: str) -> Path:
        return self.room(tenant) / sha256[:2] / sha256


@lru_cache
def _room(folder: Path, tenant: str) -> Path:
    # a tenant's name is the operator's text: its hash is a safe folder name
    return folder / hashlib.sha256(tenant.encode()).hexdigest()[:16]


def _write_synced(draft: Path, parts: Iterable[bytes]) -> None:
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        for part in parts:
            left = memoryview(part).cast("B")
            while left:
                left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _touch(target: Path) -> bool:
    """Whether the file is there; it counts as stored just now."""
    if not target.exists():
        return False
    try:
        # the lock: between looking at a file's time and removing it, nobody may touch it
        with _locked(target.parent, fcntl.LOCK_SH):
            os.utime(target)
    except FileNotFoundError:
        return False
    return True


@contextmanager
def _locked(folder: Path, kind: int) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, kind)
        yield
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Have what was renamed or removed in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
