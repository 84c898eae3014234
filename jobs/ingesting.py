"""Ingesting: sources become items of the open version of a set, in chunks that are each added whole, once.

How far a source is stands in its own input, changed in the transaction that adds a chunk: whoever comes after
a worker that was killed goes on behind it, and whoever comes too late finds that another has.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

import orjson
from sqlalchemy import Integer, Text, Uuid, bindparam, select, text
from sqlalchemy.orm import Session

from jobs import adding, image_sets, images
from jobs.adding import NewItem
from jobs.analysis_jobs import Wanted, store_job
from jobs.copying import begin_version
from jobs.errors import NoInputError, NotFoundError, VersionSealedError
from jobs.images import Content
from jobs.members import MemberError
from jobs.sources import Stored
from jobs.submission import Terms
from models.image import Image
from models.image_set import ImageSetItem, ImageSetVersion
from models.job import Job
from models.types import JobType

GFLOP_PER_BYTE: Final = 1e-5
"""Of a source: as long as an unmeasured model takes for it, a slow disk takes to store its pictures."""
MOST_ITEMS: Final = 1_000_000

READ: Final = text("""
    SELECT items -> 0 -> 'progress' FROM job_inputs WHERE job_id = :job_id AND unit = :unit FOR UPDATE
""").bindparams(bindparam("job_id", type_=Uuid()), bindparam("unit", type_=Integer()))

WRITE: Final = text("""
    UPDATE job_inputs SET items = jsonb_set(items, '{0,progress}', CAST(:progress AS jsonb))
    WHERE job_id = :job_id AND unit = :unit
""").bindparams(
    bindparam("job_id", type_=Uuid()), bindparam("unit", type_=Integer()), bindparam("progress", type_=Text())
)


class SourceForm(StrEnum):
    """What a source is: an archive of pictures, a manifest that names them, or a prefix of S3."""

    ARCHIVE = "archive"
    MANIFEST = "manifest"
    S3 = "s3"


class Phase(StrEnum):
    """What of a source comes next: lines of a manifest, members of an archive, lines without a member."""

    LINES = "lines"
    MEMBERS = "members"
    MISSING = "missing"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class NewSource:
    """A source to be ingested, with the name that it was sent under; that of a prefix of S3 is its URL.

    `stored` are its bytes, which a prefix has not; `beside` is the archive in which a manifest's files lie.
    With `folder_labels` the name of the folder that a picture lies in is its true label, where nothing beside
    it says one.
    """

    name: str
    form: SourceForm
    stored: Stored | None = None
    beside: Stored | None = None
    folder_labels: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a source is: all before `place` is `added`, but what `failed` and what was `there` already.

    Of the member at that place, the lines of a manifest that name it are added up to `line`. `skipped` are
    members that are nobody's pictures, or that the manifest does not name. Of a prefix of S3, `key` is the
    last before that place: objects may come and go. `first` is the index of its first item, if
    it has one: none of its items lies before that.
    """

    phase: Phase
    place: int = 0
    line: int = 0
    key: str = ""
    added: int = 0
    failed: int = 0
    skipped: int = 0
    there: int = 0
    first: int | None = None

    @property
    def counts(self) -> dict[str, int]:
        """What is told of it in the end."""
        return {
            "added": self.added,
            "there": self.there,
            "failed": self.failed,
            "skipped": self.skipped,
        }

    @property
    def payload(self) -> dict[str, Any]:
        """The counts, and from where on in the version its items are found."""
        return {**self.counts, "first": self.first}


@dataclass(frozen=True, slots=True)
class Target:
    """Where a source's items go, and where its progress stands."""

    tenant: str
    job_id: uuid.UUID
    unit: int
    set_id: uuid.UUID
    version_id: uuid.UUID
    most_items: int


@dataclass(frozen=True, slots=True)
class Found:
    """What is to become an item: bytes in the store, an image by its id or its hash, or what is wrong.

    `name` says of an item without a custom_id which it is.
    """

    name: str
    picture: Content | uuid.UUID | str | MemberError
    custom_id: str | None = None
    true_label: str | None = None
    split: str | None = None
    true_labels: tuple[str, ...] = ()


@dataclass(slots=True)
class Chunk:
    """What is to be added next, and how far the source is then."""

    after: Progress
    found: list[Found] = field(default_factory=list)


class OvertakenError(Exception):
    """Somebody else has gone on with this source: what is held of it is not to be added."""


def submit_ingest(
    session: Session,
    tenant: str,
    set_id: uuid.UUID,
    sources: Sequence[NewSource],
    *,
    most_items: int = MOST_ITEMS,
    terms: Terms | None = None,
    tags: Mapping[str, str] | None = None,
    key_id: uuid.UUID | None = None,
    webhook_endpoint_id: uuid.UUID | None = None,
    job_id: uuid.UUID | None = None,
) -> Job:
    """Store a job that adds sources to the open version of a set, an item of it for each.

    Their bytes lie in the blob store already. The caller commits, then invites the workers of `analysis`.

    Raises:
        NotFoundError: the tenant has no such set.
        NoInputError: there is no source.
    """
    if not sources:
        raise NoInputError("Give at least one source to add.")
    version = begin_version(session, tenant, set_id)
    files = [file for source in sources for file in (source.stored, source.beside) if file is not None]
    size_bytes = sum(file.size_bytes for file in files)
    wanted = Wanted(
        JobType.INGEST,
        [_described(source) for source in sources],
        {"set_id": str(set_id), "version_id": str(version.id), "most_items": most_items},
        item_gflop=max(size_bytes * GFLOP_PER_BYTE / len(sources), GFLOP_PER_BYTE),
        version_id=version.id,
        input_bytes=size_bytes,
        terms=terms or Terms(),
        tags=tags or {},
        key_id=key_id,
        webhook_endpoint_id=webhook_endpoint_id,
    )
    return store_job(session, tenant, wanted, job_id=job_id)


def read_progress(session: Session, target: Target) -> Progress:
    """How far a source is, held until the commit."""
    told = session.scalar(READ, {"job_id": target.job_id, "unit": target.unit})
    if told is None:
        raise NotFoundError("The job was deleted.")
    return Progress(**{**told, "phase": Phase(told["phase"])})


def add_chunk(session: Session, target: Target, before: Progress, chunk: Chunk) -> Progress:
    """Add a chunk to the version behind what was added `before`; returns how far the source is now.

    What cannot be an item as it is, for its custom_id or for an image that is not there, is one with an
    error: nothing is left out but what the version has already, the same under the same custom_id.

    Raises:
        OvertakenError: it is not as far as that, or farther.
        NotFoundError: the set was deleted.
        VersionSealedError: its version was sealed.
        TooManyItemsError: the set takes no more; nothing of the chunk was added.
    """
    if read_progress(session, target) != before:
        raise OvertakenError
    _hold_version(session, target)
    items = _items(session, target, chunk.found)
    first = before.first
    if items:
        added = adding.add_items(session, target.tenant, target.set_id, items, target.most_items)
        first = added.first if first is None else first
    after = replace(
        chunk.after,
        added=before.added + sum(item.error is None for item in items),
        failed=before.failed + sum(item.error is not None for item in items),
        there=before.there + len(chunk.found) - len(items),
        first=first,
    )
    told = {
        "job_id": target.job_id,
        "unit": target.unit,
        "progress": orjson.dumps(asdict(after)).decode(),
    }
    session.execute(WRITE, told)
    return after


def _hold_version(session: Session, target: Target) -> None:
    if session.scalar(image_sets.set_of(target.tenant, target.set_id).with_for_update()) is None:
        raise NotFoundError("The image set was deleted.")
    sealed_at = select(ImageSetVersion.sealed_at).where(ImageSetVersion.id == target.version_id)
    if session.scalar(sealed_at) is not None:
        # to go on would be to open another version, that nobody asked for
        raise VersionSealedError


def _items(session: Session, target: Target, found: Sequence[Found]) -> list[NewItem]:
    """What is found as items, without those that are there already."""
    contents = [one.picture for one in found if isinstance(one.picture, Content)]
    kept = {sha256: row.image.id for sha256, row in images.keep(session, target.tenant, contents).items()}
    kept |= _named(session, target.tenant, [one.picture for one in found if isinstance(one.picture, str)])
    held = images.hold(
        session, target.tenant, [one.picture for one in found if isinstance(one.picture, uuid.UUID)]
    )
    names = [one.custom_id for one in found if one.custom_id is not None]
    known: dict[str, NewItem | ImageSetItem] = {**adding.known_items(session, target.version_id, names)}
    items = []
    for one in found:
        item = _item(one, kept, held)
        if one.custom_id is not None:
            there = known.setdefault(one.custom_id, item)
            if there is not item and _identity(there) == _identity(item):
                continue
            if there is not item:
                item = replace(item, image_id=None, custom_id=None, error=item.error or _taken(one))
        items.append(item)
    return items


def _identity(item: NewItem | ImageSetItem) -> tuple[Any, ...]:
    """By what two items of one custom_id are the same: an error, or a picture and what is said of it."""
    if item.error is not None:
        return (item.error["code"],)
    # a tenant has one image of the same bytes
    return item.image_id, item.true_label, tuple(item.true_labels or ()), item.split


def _item(one: Found, kept: Mapping[str, uuid.UUID], held: Mapping[uuid.UUID, Image]) -> NewItem:
    image_id, error = None, None
    match one.picture:
        case MemberError() as fault:
            error = _error(fault.code, fault.message)
        case Content(sha256=sha256):
            image_id = kept[sha256]
        case str(sha256):
            image_id = kept.get(sha256)
        case uuid.UUID() as named:
            image_id = named if named in held else None
    if image_id is None and error is None:
        error = _error("unknown-image", f"{one.name}: there is no such image, send the picture first.")
    return NewItem(image_id, one.custom_id, one.true_label, one.split, error, one.true_labels)


def _named(session: Session, tenant: str, hashes: Sequence[str]) -> dict[str, uuid.UUID]:
    """The ids of kept images by their hashes; those that are not there are left out."""
    if not hashes:
        return {}
    found = select(Image.id).where(Image.tenant == tenant, Image.sha256.in_(hashes))
    held = images.hold(session, tenant, session.scalars(found).all())
    return {image.sha256: image_id for image_id, image in held.items()}


def _taken(one: Found) -> dict[str, Any]:
    return _error(
        "duplicate-custom-id",
        f"{one.name}: the custom_id {one.custom_id!r} is in the set already, for another picture or label.",
    )


def _error(code: str, message: str) -> dict[str, Any]:
    return {"code": code, "message": message, "retryable": False}


def _described(source: NewSource) -> dict[str, Any]:
    phase = Phase.LINES if source.form is SourceForm.MANIFEST else Phase.MEMBERS
    return {
        "kind": "source",
        "custom_id": source.name,
        "form": source.form,
        "stored": source.stored and source.stored.id.hex,
        "beside": source.beside and source.beside.id.hex,
        "folder_labels": source.folder_labels,
        "progress": asdict(Progress(phase)),
    }
