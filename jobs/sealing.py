"""Sealing an image set: from then on a version is one list of items, named by the hash of its manifest.

The manifest is a line of JSON for each item by index, with sorted keys, no spaces and a line feed at its
end: `custom_id`, `error` (its code), `index`, `sha256`, `split`, `true_label`, and `true_labels` where there
are several. Two versions of one hash have the same items in the same order.
"""

import hashlib
import uuid
from collections.abc import Iterator
from typing import Final

from sqlalchemy import Uuid, bindparam, func, select, text
from sqlalchemy.orm import Session

from jobs.errors import EmptySetError, NotEndedError, NotFoundError
from jobs.image_sets import begun_versions, set_of, versions_of
from models.image_set import ImageSetVersion
from models.job import Job
from models.types import JobType

LINES_AT_ONCE: Final = 20_000
"""Some megabytes, in a tenth of a second."""


def _json(column: str) -> str:
    return f"coalesce(to_json({column})::text, 'null')"


LINES: Final = text(f"""
    SELECT string_agg(
        '{{"custom_id"\\:' || {_json("custom_id")} || ',"error"\\:' || {_json("error ->> 'code'")}
        || ',"index"\\:' || index || ',"sha256"\\:' || {_json("sha256")} || ',"split"\\:' || {_json("split")}
        || ',"true_label"\\:' || {_json("true_label")}
        || coalesce(',"true_labels"\\:' || to_json(true_labels)::text, '') || E'}}\n', '' ORDER BY index
    )
    FROM image_set_items
    WHERE version_id = :version_id AND index >= :first AND index < :behind
""").bindparams(bindparam("version_id", type_=Uuid()))  # noqa: S608 - put together of statements of this code
"""Made by the database: rendering two million lines here would hold up the other requests of a process.

By both bounds of the index, which is dense: without the upper one, and without statistics of what was just
added, the planner may sort all of it for every part.
"""


def seal(session: Session, tenant: str, set_id: uuid.UUID) -> ImageSetVersion:
    """Seal the open version of a set; where there is none with an item more than the last sealed one, that.

    What is in it is hashed before the set is held: nothing of it changes, and more only comes behind it. So
    others wait for the hash of what came meanwhile, not for that of millions.

    Raises:
        NotFoundError: the tenant has no such set.
        NotEndedError: something is still being added to it.
        EmptySetError: it holds no picture.
    """
    if session.scalar(set_of(tenant, set_id)) is None:
        raise NotFoundError
    _check_ended(session, set_id)
    version = _last(session, set_id)
    if version.sealed_at is not None:
        return version
    hashed, known = hashlib.sha256(), version.items
    for lines in manifest(session, version.id, 0, known):
        hashed.update(lines)
    if session.scalar(set_of(tenant, set_id).with_for_update()) is None:
        raise NotFoundError
    _check_ended(session, set_id)
    hashed_id, version = version.id, _last(session, set_id)
    if version.sealed_at is not None:
        return version
    if version.items == version.failed:
        raise EmptySetError
    if version.id != hashed_id:
        # it was sealed meanwhile, and there is another
        hashed, known = hashlib.sha256(), 0
    for lines in manifest(session, version.id, known, version.items):
        hashed.update(lines)
    version.manifest_sha256, version.sealed_at = hashed.hexdigest(), session.scalar(select(func.now()))
    session.flush()
    return version


def manifest(session: Session, version_id: uuid.UUID, first: int, behind: int) -> Iterator[bytes]:
    """The lines of a version's manifest by index, some at a time."""
    for at in range(first, behind, LINES_AT_ONCE):
        yield manifest_lines(session, version_id, at, min(at + LINES_AT_ONCE, behind))


def manifest_lines(session: Session, version_id: uuid.UUID, first: int, behind: int) -> bytes:
    """Some lines of a version's manifest, from that of the index `first`; empty behind the last item."""
    lines = session.scalar(LINES, {"version_id": version_id, "first": first, "behind": behind})
    return b"" if lines is None else lines.encode()


def _last(session: Session, set_id: uuid.UUID) -> ImageSetVersion:
    return session.scalars(versions_of(set_id, limit=1).execution_options(populate_existing=True)).one()


def _check_ended(session: Session, set_id: uuid.UUID) -> None:
    # also of one that is no more than a copy so far
    (version,) = session.scalars(begun_versions(set_id, limit=1).execution_options(populate_existing=True))
    adding = select(Job.id).where(
        Job.version_id == version.id, Job.type == JobType.INGEST, Job.ended_at.is_(None)
    )
    if version.sealed_at is None and session.scalar(adding.limit(1)) is not None:
        raise NotEndedError("Files are still being added to this set: seal it when those jobs are done.")
