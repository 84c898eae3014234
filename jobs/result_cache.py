"""Numbers that a tenant's earlier jobs over sets have of the same pictures, found by all they depend on.

What another tenant computed is never found: by the time it takes, a hit would tell of their pictures.
"""

import hashlib
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Integer, Uuid, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

# removed results are no longer there, and those that are past their time are not to be read any more; of a
# picture that several jobs have the newest job is asked, by the ids of jobs, which are in the order of time
FIND: Final = text("""
    SELECT asked.id, found.job_id, found.index, found.payload
    FROM unnest(:ids) AS asked (id) CROSS JOIN LATERAL (
        SELECT cached.job_id, cached.index, results.payload
        FROM cached_results AS cached
        JOIN jobs ON jobs.id = cached.job_id
        JOIN results ON results.job_id = cached.job_id AND results.index = cached.index
        WHERE cached.id = asked.id AND jobs.tenant = :tenant
          AND jobs.results_removed_at IS NULL AND jobs.deleted_at IS NULL
          AND (jobs.expires_at IS NULL OR jobs.expires_at > now())
          AND results.payload -> 'table' IS NOT NULL
        ORDER BY cached.job_id DESC
        LIMIT 1
    ) AS found
""").bindparams(bindparam("ids", type_=ARRAY(Uuid())))

KEEP: Final = text("""
    INSERT INTO cached_results (id, job_id, index)
    SELECT * FROM unnest(:ids, :job_ids, :indexes)
    ON CONFLICT (id, job_id) DO NOTHING
""").bindparams(
    bindparam("ids", type_=ARRAY(Uuid())),
    bindparam("job_ids", type_=ARRAY(Uuid())),
    bindparam("indexes", type_=ARRAY(Integer())),
)
"""A row for each job that has the numbers: whichever of them goes first, they are found in the others."""


@dataclass(frozen=True, slots=True)
class Known:
    """An item of a job that has a picture's numbers, and what its row says."""

    job_id: uuid.UUID
    index: int
    payload: dict[str, Any]


def cache_id(tenant: str, key: bytes, sha256: str) -> uuid.UUID:
    """What a tenant's picture is found by; `key` is of all else that its numbers depend on."""
    # of one length each but the tenant, which comes last: no two triples are the same bytes
    digest = hashlib.sha256(hashlib.sha256(key).digest() + bytes.fromhex(sha256) + tenant.encode())
    return uuid.UUID(bytes=digest.digest()[:16])


def find_known(session: Session, tenant: str, ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, Known]:
    """Those of a tenant's pictures that a job with results has computed."""
    rows = session.execute(FIND, {"ids": list(ids), "tenant": tenant})
    return {id_: Known(job_id, index, payload) for id_, job_id, index, payload in rows}


def keep_known(session: Session, items: Iterable[tuple[uuid.UUID, uuid.UUID, int]]) -> None:
    """Name jobs and items that have pictures' numbers from now on: each the id, the job and the index."""
    # sorted: two workers that are at one job and the same pictures take the rows in one order
    if found := sorted(items):
        ids, job_ids, indexes = map(list, zip(*found, strict=True))
        session.execute(KEEP, {"ids": ids, "job_ids": job_ids, "indexes": indexes})
