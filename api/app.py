"""The composition root of the API: settings in, application out."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import async_sessionmaker

from api import errors, openapi
from api.backlog import Backlog
from api.courier import delivering
from api.dashboard.app import PATH as DASHBOARD
from api.dashboard.app import create_dashboard
from api.deps import Services
from api.exports.allowance import Allowance
from api.exports.exporter import Exporter
from api.fetching import Fetcher
from api.metrics import TURN_SECONDS as TURN_WAITS
from api.metrics import counted
from api.middleware import BodyLimit, RequestId
from api.rate_limits import RateLimits
from api.readings import Readings
from api.refunds import Refunds
from api.routes import (
    api_keys,
    docs,
    events,
    files,
    health,
    image_set_versions,
    image_sets,
    images,
    ingestions,
    items,
    job_actions,
    job_lists,
    job_requests,
    jobs,
    metrics,
    models,
    pairs,
    queues,
    results,
    retries,
    set_searches,
    summaries,
    usage,
    webhooks,
    workers,
)
from api.settings import ApiSettings
from api.shutdown import on_stop_signal
from api.spool import Spool
from api.streams import Streams
from api.turns import Turns
from api.usage import Usage
from api.waiting import Waiting
from jobs import logs, tracing
from jobs.acting import Actor
from jobs.blobs import BlobStore
from jobs.broker import Inviter
from jobs.egress import Egress
from jobs.maintenance import (
    RECORD_SECONDS,
    RECOVER_SECONDS,
    TIDY_SECONDS,
    Duty,
    acting,
    expiring,
    keep,
    recording,
    recovering,
    tidying,
)
from models.schema import head
from models.session import async_sessions, autocommit_engine, sync_sessions

STOP_SECONDS = 1.0
"""So long a duty that is under way is waited for at the end; Postgres undoes the rest."""
DIRECT = 7, 3
"""Of the connections on which each statement is a transaction, so many are for charges and submits that one
statement stores, in all and of a tenant. One is for refunds, others are always there for keys and polls."""
QUICK, SLOW, ENDING = (4, 2), (3, 2), (3, 1)
"""Of those of sessions; together no more than there are."""
TURN_SECONDS = 30.0
"""So long a turn at a connection is waited for, as is a connection of a pool."""


def create_app(settings: ApiSettings | None = None) -> FastAPI:
    """The API over the given settings, or those of the environment."""
    settings = settings or ApiSettings()
    logs.configure(log_format=settings.log_format)
    tracing.configure("lensqueue-api")
    spool = Spool(settings.max_spooled_bytes)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        inviter = Inviter(settings.broker_url)
        blobs = BlobStore(settings.blobs)
        sessions = async_sessions(settings.database_url)
        engine = autocommit_engine(settings.database_url)
        reading = async_sessionmaker(engine, expire_on_commit=False)
        egress = Egress(settings.egress_rules())
        dashboard.state.services = app.state.services = Services(
            settings=settings,
            sessions=sessions,
            engine=engine,
            reading=reading,
            direct=Turns(*DIRECT, TURN_SECONDS, TURN_WAITS.labels("direct").observe),
            quick=Turns(*QUICK, TURN_SECONDS, TURN_WAITS.labels("quick").observe),
            slow=Turns(*SLOW, TURN_SECONDS, TURN_WAITS.labels("slow").observe),
            ending=Turns(*ENDING, TURN_SECONDS, TURN_WAITS.labels("ending").observe),
            refunds=Refunds(reading),
            inviter=inviter,
            blobs=blobs,
            bodies=spool,
            archives=settings.archive_bounds(),
            catalog=settings.catalog(),
            schema_head=head(),
            waiting=Waiting(reading, settings.max_waiters),
            backlog=Backlog(reading),
            limits=RateLimits(settings.requests_per_minute, settings.bad_keys_per_minute),
            usage=Usage(sessions),
            egress=egress,
            fetcher=Fetcher(egress, settings.fetch_bounds()),
            streams=Streams(settings.max_streams),
            readings=Readings(reading),
            exporter=Exporter(
                sync_sessions(settings.database_url),
                blobs,
                Allowance(settings.max_exports, settings.max_key_exports),
                settings.max_tenant_copy_bytes,
            ),
        )
        blobs.check()
        hearing = asyncio.create_task(app.state.services.backlog.keep_hearing())
        flushing = asyncio.create_task(app.state.services.usage.keep_flushing())
        refunding = asyncio.create_task(app.state.services.refunds.keep_paying())
        try:
            with (
                _maintained(settings, inviter, blobs, app.state.services.backlog),
                delivering(settings.database_url, settings.egress_rules()),
                on_stop_signal(app.state.services.waiting.release),
            ):
                yield
        finally:
            await app.state.services.waiting.close()
            hearing.cancel()
            app.state.services.usage.end()
            app.state.services.refunds.end()
            await asyncio.wait([hearing, flushing, refunding], timeout=STOP_SECONDS)
            flushing.cancel()
            refunding.cancel()
            await asyncio.wait([flushing, refunding], timeout=STOP_SECONDS)
            app.state.services.refunds.note_lost()
            # in a thread: a broker that hangs must not keep the others from their end
            await asyncio.to_thread(inviter.close)
            await app.state.services.exporter.close()
            await asyncio.to_thread(tracing.flush)
            await egress.close()
            await sessions.kw["bind"].dispose()
            await engine.dispose()

    app = FastAPI(
        title="Lensqueue",
        summary="What SigLIP sees, layer by layer.",
        version="1",
        lifespan=lifespan,
        # ours are in api.routes.docs
        docs_url=None,
        redoc_url=None,
        # one path for each thing: a redirect would cost a client its body, or its key
        redirect_slashes=False,
        generate_unique_id_function=openapi.operation_id,
    )
    app.add_middleware(
        BodyLimit,
        limit_bytes=settings.max_body_bytes,
        stall_seconds=settings.body_stall_seconds,
        spool=spool,
    )
    app.add_middleware(RequestId)
    errors.install(app)
    by_analysts = (summaries, pairs)
    of_jobs = (
        jobs,
        job_lists,
        job_requests,
        job_actions,
        retries,
        *by_analysts,
        events,
        results,
        files,
        items,
    )
    of_images = (images, image_sets, image_set_versions, ingestions, set_searches)
    of_tenants = (api_keys, usage, webhooks)
    for routes in (health, metrics, docs, *of_images, *of_jobs, models, queues, workers, *of_tenants):
        app.include_router(routes.router)
    dashboard = create_dashboard()
    app.mount(DASHBOARD, dashboard)
    app.openapi = lambda: openapi.document(app)  # type: ignore[method-assign]  # FastAPI's documented way to extend it
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
            target=keep, args=(sessions, counted(duties), every_seconds, stop), name=name, daemon=True
        )
        thread.start()
        return thread

    actor = Actor(sessions, settings.catalog(), settings.quota(), lambda: backlog.items, inviter)
    threads = [
        start("expiry", expiring(), RECOVER_SECONDS),
        start("recovery", recovering(inviter), RECOVER_SECONDS),
        start("acting", acting(actor), RECOVER_SECONDS),
        start("recording", recording(settings.history_kept()), RECORD_SECONDS),
        start(
            "tidying",
            tidying(
                blobs,
                settings.text_budget(),
                deleted_jobs_kept=settings.deleted_jobs_kept(),
                deliveries_kept=settings.deliveries_kept(),
            ),
            TIDY_SECONDS,
        ),
    ]
    try:
        yield
    finally:
        stop.set()
        until = time.monotonic() + STOP_SECONDS
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        sessions.kw["bind"].dispose()
