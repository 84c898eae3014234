"""What `lensqueue doctor` finds out about the service: database, broker, blobs, API and workers."""

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import redis
from sqlalchemy import func, select
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError

from cli.connection import START, Connection
from cli.machine_checks import GIBIBYTE, Finding, Level
from embedded.errors import EmbeddedError
from embedded.postgres import database_url
from embedded.running import running_folders
from embedded.valkey import broker_url
from jobs.blobs import BlobStore
from jobs.errors import BlobStoreMissingError
from jobs.settings import ServiceSettings
from lensqueue_client import (
    AuthenticationError,
    Client,
    LensqueueError,
    Retries,
    UnavailableError,
    UnreachableError,
)
from lensqueue_client.configuration import address
from lensqueue_client.errors import counted
from models import schema
from models.session import sync_sessions

OLDEST_POSTGRES: Final = 18
SKEW_SECONDS: Final = 2.0
FULL_BYTES: Final = GIBIBYTE
NEARLY_FULL_BYTES: Final = 10 * GIBIBYTE


def locate(settings: ServiceSettings, state: Path) -> tuple[ServiceSettings, bool]:
    """The settings of the service that runs on the state folder, unless the environment names another.

    And whether there is any to be looked at from here.
    """
    if "LENSQUEUE_DATABASE_URL" in os.environ:
        return settings, True
    try:
        folders = running_folders(state)
    except EmbeddedError:
        folders = None
    if folders is None:
        return settings, False
    found = {
        "database_url": database_url(folders),
        "broker_url": broker_url(folders),
        "blobs": folders.blobs,
    }
    return settings.model_copy(update=found), True


def check_parts(settings: ServiceSettings) -> Iterator[Finding]:
    """The parts that the API and the workers share."""
    yield from _database(settings.database_url)
    yield _broker(settings.broker_url)
    yield from _blobs(settings.blobs)


def check_api(connection: Connection, models: Sequence[str]) -> Iterator[Finding]:
    """The API as a client sees it, and who works for it."""
    url = address(connection.url)
    try:
        with Client(connection.url, connection.key, timeout=10, retries=Retries(times=0)) as client:
            found = {model.name: model for model in client.models()}
    except AuthenticationError as error:
        yield Finding("api", Level.OK, url)
        yield Finding(
            "key", Level.FAIL, error.message, "lensqueue keys create --name me, then LENSQUEUE_API_KEY"
        )
        return
    except UnavailableError as error:
        named = error.message if isinstance(error, UnreachableError) else f"{url}: {error.message}"
        yield Finding("api", Level.FAIL, named, START.strip("()"))
        return
    except LensqueueError as error:
        if error.code == "no-key":
            remedy = "`make up` leaves one in .lensqueue; of a service elsewhere, ask whoever runs it for one"
            yield Finding("key", Level.FAIL, error.message, remedy)
        else:
            yield Finding("api", Level.FAIL, f"{url}: {error.message}", "is it the address of Lensqueue?")
        return
    yield Finding("api", Level.OK, url)
    yield Finding("key", Level.OK, "accepted")
    needed = [name for name, model in found.items() if model.queue.waiting_items or model.workers_online]
    for name in dict.fromkeys([*models, *needed]):
        model = found.get(name)
        if model is None:
            yield Finding(
                f"workers of {name}", Level.FAIL, "the service has no such model", "lensqueue models"
            )
        elif model.workers_online:
            yield Finding(f"workers of {name}", Level.OK, f"{model.workers_online} online")
        elif model.error:
            remedy = "mend what it says; its supervisor tries again"
            yield Finding(f"workers of {name}", Level.FAIL, model.error.message, remedy)
        else:
            waiting = f"none is online, {counted(model.queue.waiting_items, 'item')} waiting"
            yield Finding(f"workers of {name}", Level.WARN, waiting, f"lensqueue worker --model {name}")


def _database(url: str) -> Iterator[Finding]:
    sessions = sync_sessions(url)
    try:
        with sessions() as session:
            before = time.time()
            told = session.scalar(select(func.extract("epoch", func.clock_timestamp())))
            skew = float(told or 0) - (before + time.time()) / 2
            version = int(session.scalar(select(func.current_setting("server_version_num"))) or 0) // 10_000
            yield _postgres(version)
            yield _clock(skew)
            yield _schema(session.scalar(schema.applied()))
    except ProgrammingError:
        yield _schema(None)
    except SQLAlchemyError as error:
        said = str(getattr(error, "orig", None) or error).splitlines()[0]
        yield Finding("database", Level.FAIL, said, "start Postgres, or correct LENSQUEUE_DATABASE_URL")
    finally:
        sessions.kw["bind"].dispose()


def _postgres(version: int) -> Finding:
    if version < OLDEST_POSTGRES:
        remedy = f"Lensqueue needs Postgres {OLDEST_POSTGRES}: it makes its ids by uuidv7()"
        return Finding("database", Level.FAIL, f"Postgres {version}", remedy)
    return Finding("database", Level.OK, f"Postgres {version}")


def _clock(skew_s: float) -> Finding:
    said = f"{abs(skew_s):.1f} s {'behind' if skew_s > 0 else 'ahead of'} the database's"
    if abs(skew_s) > SKEW_SECONDS:
        return Finding("clock", Level.WARN, said, "let NTP set both; leases go by the database's alone")
    return Finding("clock", Level.OK, said)


def _schema(applied: str | None) -> Finding:
    if applied == schema.head():
        return Finding("schema", Level.OK, f"{applied}, as this version needs")
    found = f"{applied or 'none'}, this version needs {schema.head()}"
    return Finding("schema", Level.FAIL, found, "lensqueue migrate")


def _broker(url: str) -> Finding:
    try:
        # redis-py spells a unix socket in another way than kombu
        with redis.Redis.from_url(url.replace("redis+socket:", "unix:"), socket_timeout=5) as client:
            client.ping()
            policy = dict(client.config_get("maxmemory-policy")).get("maxmemory-policy")
    except (redis.RedisError, ValueError) as error:
        remedy = "start Redis or Valkey, or correct LENSQUEUE_BROKER_URL; jobs are taken meanwhile, and wait"
        return Finding("broker", Level.FAIL, str(error) or type(error).__name__, remedy)
    if policy not in {None, "noeviction"}:
        return Finding("broker", Level.WARN, f"maxmemory-policy {policy}", "set it to noeviction")
    return Finding("broker", Level.OK, "answers")


def _blobs(folder: Path) -> Iterator[Finding]:
    try:
        BlobStore(folder).check()
        free = shutil.disk_usage(folder).free
    except BlobStoreMissingError as error:
        yield Finding("blobs", Level.FAIL, error.message, "mount the volume, or run `lensqueue migrate` once")
        return
    except OSError as error:
        yield Finding("blobs", Level.FAIL, str(error), "let the service's user enter LENSQUEUE_BLOBS")
        return
    finding = Finding("blobs", Level.OK, f"{folder}, with {free / GIBIBYTE:.1f} GiB free")
    if free < FULL_BYTES:
        yield replace(finding, level=Level.FAIL, remedy="make room: nothing is taken on a full disk")
    elif free < NEARLY_FULL_BYTES:
        yield replace(finding, level=Level.WARN, remedy="a shorter result_ttl_s frees results and maps")
    else:
        yield finding
