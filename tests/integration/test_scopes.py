"""What a key may do: nothing without the scope for it."""

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from jobs.keys import create_key
from models.types import Scope
from tests.faults import change
from tests.ledger import TENANT

TEXTS = {"type": "embedding", "input": {"texts": ["a ring"]}}


def bearer(sessions: sessionmaker[Session], *scopes: Scope) -> dict[str, str]:
    with sessions.begin() as session:
        made = create_key(session, name="scoped", tenant=TENANT, scopes=scopes)
    return {"Authorization": f"Bearer {made.key}"}


def test_a_key_that_reads_submits_nothing(api: TestClient, sessions: sessionmaker[Session]) -> None:
    reader = bearer(sessions, Scope.READ)
    refused = api.post("/v1/jobs", json=TEXTS, headers=reader)
    assert (refused.status_code, refused.json()["code"]) == (403, "insufficient-scope")
    assert "`submit`" in refused.json()["detail"]
    job = api.post("/v1/jobs", json=TEXTS).json()
    assert api.get(job["links"]["self"], headers=reader).status_code == 200
    assert api.post(job["links"]["cancel"], headers=reader).status_code == 403


def test_a_key_that_submits_reads_nothing(api: TestClient, sessions: sessionmaker[Session]) -> None:
    submitter = bearer(sessions, Scope.SUBMIT)
    job = api.post("/v1/jobs", json=TEXTS, headers=submitter)
    assert job.status_code == 202
    assert api.get(job.json()["links"]["self"], headers=submitter).status_code == 403


@pytest.mark.parametrize("ending", ["revoked_at = now()", "expires_at = now() - interval '1 second'"])
def test_a_key_that_ended_is_refused(api: TestClient, sessions: sessionmaker[Session], ending: str) -> None:
    held = bearer(sessions, *Scope)
    assert api.get("/v1/workers", headers=held).status_code == 200
    change(sessions, f"UPDATE api_keys SET {ending}")  # noqa: S608 - one of the two above
    refused = api.get("/v1/workers", headers=held)
    assert (refused.status_code, refused.json()["code"]) == (401, "invalid-key")
