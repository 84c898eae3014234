"""The composition root of the API: settings in, application out."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

from api import errors
from api.backlog import Backlog
from api.deps import Services
from api.exports.exporter import Exporter
from api.middleware import BodyLimit, RequestId
from api.routes import (
    events,
    health,
    images,
    items,
    job_actions,
    job_lists,
    job_requests,
    jobs,
    models,
    queues,
    results,
    retries,
    workers,
)
from api.schemas.job_actions import ActionRequest
from api.schemas.retries import RetryRequest
from api.schemas.submissions import JOB_REQUEST
from api.settings import ApiSettings
from api.shutdown import on_stop_signal
from api.streams import Streams
from api.waiting import Waiting
from jobs import logs
from jobs.actions import Actor
from jobs.blobs import BlobStore
from jobs.broker import Inviter
from jobs.maintenance import RECOVER_SECONDS, TIDY_SECONDS, Duty, acting, expiring, keep, recovering, tidying
from models.schema import head
from models.session import async_sessions, sync_sessions

STOP_SECONDS = 1.0
"""So long a duty that is under way is waited for at the end; Postgres undoes the rest."""


def create_app(settings: ApiSettings | None = None) -> FastAPI:
    """The API over the given settings, or those of the environment."""
    logs.configure()
    settings = settings or ApiSettings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        inviter = Inviter(settings.broker_url)
        blobs = BlobStore(settings.blobs)
        sessions = async_sessions(settings.database_url)
        app.state.services = Services(
            settings=settings,
            sessions=sessions,
            inviter=inviter,
            blobs=blobs,
            catalog=settings.catalog(),
            schema_head=head(),
            waiting=Waiting(sessions, settings.max_waiters),
            backlog=Backlog(sessions),
            streams=Streams(settings.max_streams),
            exporter=Exporter(sync_sessions(settings.database_url), blobs),
        )
        blobs.check()
        hearing = asyncio.create_task(app.state.services.backlog.keep_hearing())
        try:
            with (
                _maintained(settings, inviter, blobs, app.state.services.backlog),
                on_stop_signal(app.state.services.waiting.release),
            ):
                yield
        finally:
            await app.state.services.waiting.close()
            hearing.cancel()
            await asyncio.wait([hearing], timeout=STOP_SECONDS)
            await app.state.services.exporter.close()
            # in a thread: a broker that hangs must not keep the others from their end
            await asyncio.to_thread(inviter.close)
            await sessions.kw["bind"].dispose()

    app = FastAPI(
        title="Lensqueue", summary="What SigLIP sees, layer by layer.", version="1", lifespan=lifespan
    )
    app.add_middleware(BodyLimit, limit_bytes=settings.max_body_bytes)
    app.add_middleware(RequestId)
    errors.install(app)
    of_jobs = (jobs, job_lists, job_requests, job_actions, retries, events, results, items)
    for routes in (health, images, *of_jobs, models, queues, workers):
        app.include_router(routes.router)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # FastAPI's documented way to extend it
    return app


@contextmanager
def _maintained(
    settings: ApiSettings, inviter: Inviter, blobs: BlobStore, backlog: Backlog
) -> Iterator[None]:
    """Do the duties meanwhile: what brings work forward apart from what may be slow."""
    stop = threading.Event()
    sessions = sync_sessions(settings.database_url)

    def start(name: str, duties: Sequence[Duty], every_seconds: float) -> threading.Thread:
        # a daemon: one that waits for the database must not hold up the end of the process
        thread = threading.Thread(
            target=keep, args=(sessions, duties, every_seconds, stop), name=name, daemon=True
        )
        thread.start()
        return thread

    actor = Actor(settings.catalog(), settings.quota(), lambda: backlog.items, inviter)
    threads = [
        start("expiry", expiring(), RECOVER_SECONDS),
        start("recovery", recovering(inviter), RECOVER_SECONDS),
        start("acting", acting(actor), RECOVER_SECONDS),
        start("tidying", tidying(blobs, settings.text_budget(), settings.deleted_jobs_kept()), TIDY_SECONDS),
    ]
    try:
        yield
    finally:
        stop.set()
        until = time.monotonic() + STOP_SECONDS
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        sessions.kw["bind"].dispose()


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The schema, with the requests that routes parse themselves."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, summary=app.summary, version=app.version, routes=app.routes)
        parsers: dict[str, TypeAdapter[Any]] = {
            "JobRequest": JOB_REQUEST,
            "RetryRequest": TypeAdapter(RetryRequest),
            "ActionRequest": TypeAdapter(ActionRequest),
        }
        schemas = document["components"]["schemas"]
        for name, parser in parsers.items():
            request = parser.json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(request.pop("$defs", {}))
            schemas[name] = request
        app.openapi_schema = document
    return app.openapi_schema
