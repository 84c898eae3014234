"""Real Postgres and Valkey for every test that asks: one stack a run, one cloned database a test."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
import redis
from jaxtyping import install_import_hook
from sqlalchemy import URL, create_engine, make_url, text
from sqlalchemy.orm import Session, sessionmaker

from embedded.postgres import SUPERUSER
from embedded.stack import Stack
from jobs.blobs import BlobStore
from models import schema
from models.session import sync_sessions
from tests.scratch import scratch_folder

# Installed before any test imports the engine: the axes that annotations name are checked at every call.
install_import_hook(
    [
        "engine.directions",
        "engine.lens",
        "engine.preprocess",
        "engine.readout",
        "engine.residual",
        "engine.text",
    ],
    "beartype.beartype",
)

# what drives browsers is installed by `make test-browser`
collect_ignore = [] if find_spec("playwright") else ["browser"]

SAMPLES = Path(__file__).resolve().parents[1] / "demo" / "samples" / "images"


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    with scratch_folder("lensqueue-tests-") as state, Stack(state) as running:
        _forget_durability(running)
        yield running


@pytest.fixture(scope="session")
def template(stack: Stack) -> str:
    """A database with the schema in it, to be copied."""
    name = _create(stack, "template1")
    schema.upgrade(_url(stack, name))
    return name


@pytest.fixture
def database_url(stack: Stack, template: str) -> Iterator[str]:
    with _database(stack, template) as url:
        yield url


@pytest.fixture
def empty_database_url(stack: Stack) -> Iterator[str]:
    with _database(stack, "template1") as url:
        yield url


@pytest.fixture
def bare_database_url(stack: Stack) -> Iterator[str]:
    """A database without pgvector, as other servers have them."""
    with _database(stack, "template0") as url:
        yield url


@pytest.fixture
def sessions(database_url: str) -> Iterator[sessionmaker[Session]]:
    made = sync_sessions(database_url)
    yield made
    made.kw["bind"].dispose()


@pytest.fixture
def broker_url(stack: Stack) -> str:
    """A broker with nothing in it."""
    with redis.Redis.from_url(stack.valkey_url) as client:
        client.flushall()
    return stack.broker_url


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    store = BlobStore(tmp_path / "blobs")
    store.create()
    return store


@pytest.fixture
def picture() -> bytes:
    """A sample scene with a cyan ring."""
    return (SAMPLES / "scene-00000.jpg").read_bytes()


def _forget_durability(stack: Stack) -> None:
    """No test reads these databases after a crash: to sync them is most of a short test."""
    _administer(_superuser(stack), "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")


@contextmanager
def _database(stack: Stack, template: str) -> Iterator[str]:
    """A copy for one test, dropped before the kernel has written its 9 MB to the disk."""
    name = _create(stack, template)
    yield _url(stack, name)
    # as the superuser: only it may end autovacuum, which may be at work there
    _administer(_superuser(stack), f"DROP DATABASE {name} WITH (FORCE)")


def _create(stack: Stack, template: str) -> str:
    name = f"test_{uuid.uuid4().hex}"
    maintained = make_url(_url(stack, "postgres"))
    _administer(maintained, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    return name


def _administer(database: URL, *statements: str) -> None:
    engine = create_engine(database, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def _superuser(stack: Stack) -> URL:
    return make_url(_url(stack, "postgres")).set(username=SUPERUSER)


def _url(stack: Stack, database: str) -> str:
    url: URL = make_url(stack.database_url).set(database=database)
    return url.render_as_string(hide_password=False)
