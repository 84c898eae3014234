"""Embeddings of labels' texts, apart for every tenant: found and kept many at a time, within a budget.

A hit of somebody else's would tell a tenant of their labels, by the time it takes.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog
from sqlalchemy import BigInteger, Integer, Interval, LargeBinary, Text, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

log = structlog.get_logger()

FRESH: Final = timedelta(days=1)
"""A text is marked as used when it was not for so long: not each hit is to be a write."""
ROWS_AT_ONCE: Final = 5_000
ROUND_SECONDS: Final = 600.0
"""So often the budgets are looked at: summing up is a read of all rows."""

# SKIP LOCKED: who marks them is all the same, and nobody is to wait for it
FIND: Final = text("""
    WITH stale AS (
        SELECT key FROM text_embeddings
        WHERE tenant = :tenant AND key = ANY(:keys) AND used_at < now() - :fresh
        FOR NO KEY UPDATE SKIP LOCKED
    ), used AS (
        UPDATE text_embeddings SET used_at = now()
        FROM stale WHERE text_embeddings.tenant = :tenant AND text_embeddings.key = stale.key
    )
    SELECT key, vector FROM text_embeddings WHERE tenant = :tenant AND key = ANY(:keys)
""").bindparams(
    bindparam("tenant", type_=Text()),
    bindparam("keys", type_=ARRAY(LargeBinary())),
    bindparam("fresh", type_=Interval()),
)

KEEP: Final = text("""
    INSERT INTO text_embeddings (tenant, key, vector)
    SELECT :tenant, key, vector FROM unnest(:keys, :vectors) AS new (key, vector)
    ON CONFLICT DO NOTHING
""").bindparams(
    bindparam("tenant", type_=Text()),
    bindparam("keys", type_=ARRAY(LargeBinary())),
    bindparam("vectors", type_=ARRAY(LargeBinary())),
)

FORGET_UNUSED: Final = text("""
    WITH unused AS (
        SELECT tenant, key FROM text_embeddings WHERE used_at < now() - :kept
        ORDER BY used_at LIMIT :some FOR UPDATE SKIP LOCKED
    )
    DELETE FROM text_embeddings USING unused
    WHERE text_embeddings.tenant = unused.tenant AND text_embeddings.key = unused.key
    RETURNING 1
""").bindparams(bindparam("kept", type_=Interval()), bindparam("some", type_=Integer()))

NEXT_TENANT: Final = text("SELECT min(tenant) FROM text_embeddings WHERE tenant > :after").bindparams(
    bindparam("after", type_=Text())
)

HELD_BYTES: Final = text("""
    SELECT coalesce(sum(octet_length(vector)), 0) FROM text_embeddings WHERE tenant = :tenant
""").bindparams(bindparam("tenant", type_=Text()))

FORGET_EXCESS: Final = text("""
    WITH oldest AS (
        SELECT key, octet_length(vector) AS bytes, used_at FROM text_embeddings
        WHERE tenant = :tenant ORDER BY used_at, key LIMIT :some FOR UPDATE SKIP LOCKED
    ), excess AS (
        SELECT key, sum(bytes) OVER (ORDER BY used_at, key) - bytes AS before FROM oldest
    )
    DELETE FROM text_embeddings USING excess
    WHERE text_embeddings.tenant = :tenant AND text_embeddings.key = excess.key AND before < :excess
    RETURNING 1
""").bindparams(
    bindparam("tenant", type_=Text()),
    bindparam("some", type_=Integer()),
    bindparam("excess", type_=BigInteger()),
)
"""The rows that were not used for longest, up to the one that takes the tenant below its budget."""


@dataclass(frozen=True, slots=True)
class TextBudget:
    """How long texts that nobody uses are kept, and how many bytes of vectors each tenant may have."""

    unused: timedelta = timedelta(days=30)
    tenant_bytes: int = 512 * 2**20


def find_texts(session: Session, tenant: str, keys: Sequence[bytes]) -> dict[bytes, bytes]:
    """The vectors that are kept under these keys, marked as used."""
    found = session.execute(FIND, {"tenant": tenant, "keys": list(keys), "fresh": FRESH})
    return {bytes(key): bytes(vector) for key, vector in found}


def keep_texts(session: Session, tenant: str, vectors: Mapping[bytes, bytes]) -> None:
    """Keep vectors by their keys; those that are there already stay as they are."""
    # sorted: two workers that embed the same labels take the index entries in one order
    keys = sorted(vectors)
    session.execute(KEEP, {"tenant": tenant, "keys": keys, "vectors": [vectors[key] for key in keys]})


def forget_unused(session: Session, budget: TextBudget) -> int:
    """Remove texts that were not used for long; returns how many."""
    gone = session.execute(FORGET_UNUSED, {"kept": budget.unused, "some": ROWS_AT_ONCE})
    return len(gone.all())


class BudgetRound:
    """The duty that holds tenants to their budget: one after the other, then it rests for ROUND_SECONDS."""

    def __init__(self, budget: TextBudget) -> None:
        """Begin with the first tenant, at once."""
        self._budget = budget
        self._after = ""
        self._rests_until = 0.0

    def __call__(self, session: Session) -> int:
        """Look at one tenant and remove a slice of its excess; 0 when the round is over."""
        if time.monotonic() < self._rests_until:
            return 0
        tenant = session.scalar(NEXT_TENANT, {"after": self._after})
        if tenant is None:
            self._after, self._rests_until = "", time.monotonic() + ROUND_SECONDS
            return 0
        held = session.scalar(HELD_BYTES, {"tenant": tenant})
        removed = self._forget(session, tenant, int(held or 0) - self._budget.tenant_bytes)
        if removed < ROWS_AT_ONCE:
            self._after = tenant
        return max(1, removed)

    def _forget(self, session: Session, tenant: str, excess: int) -> int:
        if excess <= 0:
            return 0
        gone = session.execute(FORGET_EXCESS, {"tenant": tenant, "some": ROWS_AT_ONCE, "excess": excess})
        removed = len(gone.all())
        log.info("texts.over_budget", tenant=tenant, removed=removed)
        return removed
