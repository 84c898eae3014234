"""Sessions: sync for workers and the command line, async for the API, over one database URL."""

import select
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

POOL_SIZE = 10
SYNC_POOL_SIZE, SYNC_OVERFLOW = 4, 10
Database = Session | Connection
"""What a statement is executed on: where no entity is read or written, a connection costs less."""
CONNECT_ARGS: dict[str, Any] = {
    "connect_timeout": 5,
    # a database host that vanished is noticed in seconds, not when the kernel gives up after many minutes
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    # PgBouncer in transaction mode knows no prepared statements of ours
    "prepare_threshold": None,
}


def _to_json(value: Any) -> str:
    # numpy arrays go in as they are, floats in their shortest form
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY).decode()


ENGINE_ARGS: dict[str, Any] = {
    # what is bound to a statement is users' content: never in an error's text, hence never in a log
    "hide_parameters": True,
    "connect_args": CONNECT_ARGS,
    "json_deserializer": orjson.loads,
    "json_serializer": _to_json,
}


def sync_sessions(database_url: str) -> sessionmaker[Session]:
    """Sessions for a worker or the command line; `postgresql+psycopg://` URL."""
    engine = create_engine(database_url, pool_size=SYNC_POOL_SIZE, max_overflow=SYNC_OVERFLOW, **ENGINE_ARGS)
    _refuse_closed(engine)
    return sessionmaker(engine, expire_on_commit=False)


def async_sessions(database_url: str) -> async_sessionmaker[AsyncSession]:
    """Sessions for the API, over the same `postgresql+psycopg://` URL."""
    return async_sessionmaker(_async_engine(database_url), expire_on_commit=False)


def autocommit_engine(database_url: str) -> AsyncEngine:
    """Connections for the API on which each statement is a transaction, apart from those of its sessions.

    It spares BEGIN and COMMIT, each of which is a round trip as long as a primary-key read; and connections
    that others use too would be told of it each time.
    """
    return _async_engine(database_url, isolation_level="AUTOCOMMIT")


def _async_engine(database_url: str, **arguments: Any) -> AsyncEngine:
    engine = create_async_engine(
        database_url, pool_size=POOL_SIZE, max_overflow=0, **ENGINE_ARGS, **arguments
    )
    _refuse_closed(engine.sync_engine)
    return engine


def _refuse_closed(engine: Engine) -> None:
    """Tell the pool of a connection that its server has closed, so that it opens another.

    A look at the socket, not a round trip: nothing is to be read of one that rests, but its end.
    """

    def look(_: Any, record: Any, __: Any) -> None:
        rests = select.poll()
        rests.register(record.driver_connection.fileno(), select.POLLIN)
        if rests.poll(0):
            raise DisconnectionError("the server has closed it")

    event.listen(engine, "checkout", look)
