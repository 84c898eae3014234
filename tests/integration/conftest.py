"""The API in this process, over a real database, broker and blob store."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from api.app import create_app
from api.settings import ApiSettings
from jobs import image_sets, ingesting
from jobs.blobs import BlobStore
from jobs.ingesting import NewSource, SourceForm
from jobs.keys import create_key
from models.queue import ANALYSIS
from models.types import Role
from tests.dashboard import SeenBy, add_account, sign_in
from tests.ingestions import Ingest, keep
from tests.ledger import MODEL, TENANT
from tests.receiver import Receiver
from worker.analyst_runtime import Analyst
from worker.heartbeat import Heartbeat
from worker.running import RunningMark
from worker.settings import WorkerSettings


@pytest.fixture
def settings(database_url: str, broker_url: str, blobs: BlobStore) -> ApiSettings:
    return ApiSettings(
        database_url=database_url, broker_url=broker_url, blobs=blobs.folder, default_model=MODEL
    )


@pytest.fixture
def key(sessions: sessionmaker[Session]) -> str:
    with sessions.begin() as session:
        return create_key(session, name="tests", tenant=TENANT).key


@pytest.fixture
def api(settings: ApiSettings, key: str) -> Iterator[TestClient]:
    """A client with a good key."""
    with TestClient(create_app(settings), headers={"Authorization": f"Bearer {key}"}) as client:
        yield client


@pytest.fixture
def heartbeat(sessions: sessionmaker[Session]) -> Iterator[Heartbeat]:
    beating = Heartbeat(sessions, uuid.uuid4(), every_seconds=0.05)
    yield beating
    beating.stop()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver.listening() as listening:
        yield listening


@pytest.fixture
def analyst(sessions: sessionmaker[Session], blobs: BlobStore, heartbeat: Heartbeat) -> Analyst:
    """What a worker of the queue `analysis` holds, in the test's own process."""
    settings = WorkerSettings(model=ANALYSIS, blobs=blobs.folder)
    return Analyst(settings, sessions, blobs, heartbeat, RunningMark(settings.worker_id))


@pytest.fixture
def set_id(sessions: sessionmaker[Session]) -> uuid.UUID:
    with sessions.begin() as session:
        return image_sets.create_set(session, TENANT, "shapes").id


@pytest.fixture
def ingest(sessions: sessionmaker[Session], blobs: BlobStore, set_id: uuid.UUID) -> Ingest:
    """Submits one source, with an archive beside it perhaps."""

    def submit_one(
        data: bytes, form: SourceForm = SourceForm.ARCHIVE, beside: bytes | None = None, **how: Any
    ) -> uuid.UUID:
        archive = None if beside is None else keep(blobs, beside)
        source = NewSource("source", form, keep(blobs, data), archive, **how)
        with sessions.begin() as session:
            return ingesting.submit_ingest(session, TENANT, set_id, [source]).id

    return submit_one


@pytest.fixture
def service(settings: ApiSettings, sessions: sessionmaker[Session]) -> Iterator[TestClient]:
    with sessions.begin() as session:
        create_key(session, name="tests", tenant=TENANT)
    with TestClient(create_app(settings), base_url="https://testserver") as client:
        yield client


@pytest.fixture
def seen_by(service: TestClient, sessions: sessionmaker[Session]) -> SeenBy:
    """The service as somebody sees it who has just signed in."""

    def look(role: Role = Role.OPERATOR, tenant: str | None = TENANT) -> TestClient:
        email = f"{role}-{tenant}@example.org"
        add_account(sessions, email, role, tenant)
        service.cookies.clear()
        return sign_in(service, email)

    return look
