"""Two versions on one database, as docs/how-to/upgrade.md has them follow each other."""

from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from api.app import create_app
from api.settings import ApiSettings
from models import schema
from tests.faults import change


def test_a_process_that_is_newer_than_the_schema_waits_for_the_migration(
    settings: ApiSettings, database_url: str
) -> None:
    schema.downgrade(database_url, "-1")
    with TestClient(create_app(settings)) as early:
        assert early.get("/healthz").status_code == 200
        assert early.get("/readyz").status_code == 503
        schema.upgrade(database_url)
        assert early.get("/readyz").status_code == 200


def test_a_process_that_is_older_than_the_schema_takes_no_new_requests_and_answers_those_it_has(
    api: TestClient, sessions: sessionmaker[Session]
) -> None:
    change(sessions, "UPDATE alembic_version SET version_num = '9999'")
    unready = api.get("/readyz")
    assert (unready.status_code, unready.json()["code"]) == (503, "unready")
    assert "9999" in unready.json()["detail"]
    assert api.get("/v1/workers").status_code == 200
