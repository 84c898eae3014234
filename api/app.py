"""The composition root of the API: settings in, application out."""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api import errors
from api.deps import Services
from api.middleware import BodyLimit, RequestId
from api.routes import health, images, items, jobs, models, workers
from api.schemas.jobs import JOB_REQUEST
from api.settings import ApiSettings
from api.shutdown import on_stop_signal
from api.waiting import Waiting
from jobs import logs
from jobs.blobs import BlobStore
from jobs.broker import Inviter
from jobs.maintenance import keep
from models.schema import head
from models.session import async_sessions, sync_sessions


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
        )
        blobs.check()
        stop = threading.Event()
        duties = threading.Thread(
            target=keep, args=(sync_sessions(settings.database_url), inviter, blobs, stop), name="maintenance"
        )
        duties.start()
        try:
            with on_stop_signal(app.state.services.waiting.release):
                yield
        finally:
            await app.state.services.waiting.close()
            stop.set()
            duties.join()
            inviter.close()
            await sessions.kw["bind"].dispose()

    app = FastAPI(
        title="Lensqueue", summary="What SigLIP sees, layer by layer.", version="1", lifespan=lifespan
    )
    app.add_middleware(BodyLimit, limit_bytes=settings.max_body_bytes)
    app.add_middleware(RequestId)
    errors.install(app)
    for routes in (health, images, jobs, items, models, workers):
        app.include_router(routes.router)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # FastAPI's documented way to extend it
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The schema, with the job request that the route parses itself."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, summary=app.summary, version=app.version, routes=app.routes)
        request = JOB_REQUEST.json_schema(ref_template="#/components/schemas/{model}")
        schemas = document["components"]["schemas"]
        schemas.update(request.pop("$defs"))
        schemas["JobRequest"] = request
        app.openapi_schema = document
    return app.openapi_schema
