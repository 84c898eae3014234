"""A job over a version of an image set: its items are those of the version, copied where they lie.

Items with the same bytes go into one unit, next to each other, so that a worker reads and computes them once;
only where more of them than a unit holds are alike are they computed more than once.
"""

import uuid
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Integer, Uuid, bindparam, text
from sqlalchemy.orm import Session

from engine.catalog import Catalog
from jobs.errors import NotSealedError, UnknownImageSetError
from jobs.image_sets import version_of
from jobs.units import Admission, store_work
from models.job import Job

POINTER: Final = "/input/image_set_version"

STORE_INPUTS: Final = text("""
    WITH placed AS (
        SELECT *, row_number() OVER (ORDER BY alike, index) - 1 AS place
        FROM (
            SELECT index, custom_id, image_id, sha256, error,
                   min(index) OVER (PARTITION BY coalesce(sha256, CAST(index AS text))) AS alike
            FROM image_set_items WHERE version_id = :version_id
        ) AS items
    ), stored AS (
        INSERT INTO job_inputs (job_id, unit, items, image_ids)
        SELECT :job_id, place / :unit_items,
               jsonb_agg(
                   jsonb_build_object('index', index, 'kind', 'image', 'custom_id', custom_id)
                   || CASE WHEN error IS NULL THEN jsonb_build_object('sha256', sha256, 'image_id', image_id)
                           ELSE jsonb_build_object('error', error) END
                   ORDER BY place
               ),
               coalesce(array_agg(DISTINCT image_id) FILTER (WHERE image_id IS NOT NULL), '{}')
        FROM placed GROUP BY place / :unit_items
        RETURNING jsonb_array_length(items) AS items
    )
    SELECT coalesce(sum(items), 0) FROM stored
""").bindparams(
    bindparam("job_id", type_=Uuid()),
    bindparam("version_id", type_=Uuid()),
    bindparam("unit_items", type_=Integer()),
)
"""The items of a version as the inputs of a job, by content and then by index.

What is no picture has failed already, and its item says why.
"""


@dataclass(frozen=True, slots=True)
class VersionSource:
    """A sealed version, `items` of which a job works on; `input_bytes` is what its pictures weigh."""

    version_id: uuid.UUID
    items: int
    input_bytes: int
    manifest_sha256: str

    @property
    def options(self) -> dict[str, Any]:
        """What the worker and the summary have to know of it."""
        version = {
            "id": str(self.version_id),
            "manifest_sha256": self.manifest_sha256,
            "items": self.items,
        }
        return {"version": version}

    def check(self, catalog: Catalog) -> None:
        """Nothing: a sealed version stays as it is."""

    def store(self, session: Session, job: Job, admission: Admission) -> None:
        """Store the items as those of the job, and its waiting work.

        Raises:
            UnknownImageSetError: the set was deleted since the version was found.
        """
        values = {"job_id": job.id, "version_id": self.version_id, "unit_items": admission.unit_items}
        if session.scalar(STORE_INPUTS, values) != self.items:
            raise UnknownImageSetError("This image set is being deleted.", pointer=POINTER)
        store_work(session, job, admission)


def find_version(session: Session, tenant: str, version_id: uuid.UUID) -> VersionSource:
    """The tenant's sealed version of this id.

    Raises:
        UnknownImageSetError: there is none, or it is another tenant's.
        NotSealedError: it can still be added to.
    """
    version = session.scalar(version_of(tenant, version_id))
    if version is None:
        raise UnknownImageSetError(pointer=POINTER)
    if version.manifest_sha256 is None:
        raise NotSealedError(pointer=POINTER)
    return VersionSource(version.id, version.items, version.image_bytes, version.manifest_sha256)
