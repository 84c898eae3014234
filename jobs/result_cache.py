"""Numbers that a tenant's earlier jobs over sets have of the same pictures, found by all they depend on.

What another tenant computed is never found: by the time it takes, a hit would tell of their pictures.
"""

import hashlib
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Integer, Uuid, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

# removed results are no longer there, and those that are past their time are not to be read any more
FIND: Final = text("""
    SELECT cached.id, cached.job_id, cached.index, results.payload
    FROM cached_results AS cached
    JOIN jobs ON jobs.id = cached.job_id
    JOIN results ON results.job_id = cached.job_id AND results.index = cached.index
    WHERE cached.id = ANY(:ids) AND jobs.tenant = :tenant
      AND jobs.results_removed_at IS NULL AND jobs.deleted_at IS NULL
      AND (jobs.expires_at IS NULL OR jobs.expires_at > now())
      AND results.payload -> 'table' IS NOT NULL
""").bindparams(bindparam("ids", type_=ARRAY(Uuid())))

KEEP: Final = text("""
    INSERT INTO cached_results (id, job_id, index)
    SELECT * FROM unnest(:ids, :job_ids, :indexes)
    ON CONFLICT (id) DO UPDATE SET job_id = excluded.job_id, index = excluded.index
""").bindparams(
    bindparam("ids", type_=ARRAY(Uuid())),
    bindparam("job_ids", type_=ARRAY(Uuid())),
    bindparam("indexes", type_=ARRAY(Integer())),
)
"""Of jobs that have the same numbers the latest is named: its results are likely to stay the longest."""


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


def keep_known(session: Session, items: Mapping[uuid.UUID, tuple[uuid.UUID, int]]) -> None:
    """Name the jobs and items that have these pictures' numbers from now on."""
    # sorted: two workers that compute the same pictures take the rows in one order
    ids = sorted(items)
    if ids:
        found = [items[each] for each in ids]
        values = {"job_ids": [job_id for job_id, _ in found], "indexes": [index for _, index in found]}
        session.execute(KEEP, {"ids": ids, **values})
