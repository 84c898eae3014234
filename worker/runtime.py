"""What the worker's child process holds between tasks: the loaded engine and its ways to the ledger."""

import os
import signal
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import structlog
from PIL import Image
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from engine.catalog import Checkpoint
from engine.errors import EngineError
from jobs import workers
from jobs.blobs import BlobStore
from jobs.errors import DomainError
from models.session import sync_sessions
from pictures.decode import Limits
from worker import metrics
from worker.canary import CanaryFailedError, check_canary
from worker.heartbeat import Heartbeat
from worker.pace import Room
from worker.running import RunningMark
from worker.settings import WorkerSettings

if TYPE_CHECKING:
    from engine.siglip import SiglipEngine
    from worker.decode_pool import DecodePool
    from worker.labels import LabelCache

log = structlog.get_logger()

DATABASE_PATIENCE_SECONDS = 60.0
DATABASE_RETRY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Runtime:
    """A loaded worker."""

    settings: WorkerSettings
    sessions: sessionmaker[Session]
    blobs: BlobStore
    heartbeat: Heartbeat
    engine: "SiglipEngine"
    labels: "LabelCache"
    room: Room
    checkpoint: Checkpoint
    running: RunningMark
    provenance: dict[str, Any] = field(default_factory=dict)
    decoders: "DecodePool | None" = None
    """Absent only where no pictures are worked on."""


_loaded: list[Runtime] = []


def current() -> Runtime:
    """The runtime of this process."""
    return _loaded[0]


def start(settings: WorkerSettings) -> bool:
    """Load the checkpoint and report it; False, with the reason logged and reported, when that fails."""
    sessions = sync_sessions(settings.database_url)
    if failure(sessions, settings) is not None:
        # the pool starts another child while the worker is ending over the first one's failure
        return False
    register(sessions, settings, draining_ends=False)
    heartbeat = Heartbeat(
        sessions,
        settings.worker_id,
        every_seconds=settings.lease_seconds / 4,
        stall_seconds=settings.stall_seconds,
    )
    try:
        runtime = _load(settings, sessions, heartbeat)
        check_canary(runtime.engine)
    except Exception as error:
        heartbeat.stop()
        reason = reason_of(error)
        with sessions.begin() as session:
            workers.report_failed(session, settings.worker_id, reason)
            if isinstance(error, CanaryFailedError):
                workers.judge_crashes(session, settings.worker_id, healthy=False)
        known = isinstance(error, EngineError | DomainError | CanaryFailedError)
        # an error of ours says it all in one line; anything else needs its traceback
        log.error("worker.load_failed", model=settings.model, **reason, exc_info=not known)  # noqa: TRY400
        return False
    with sessions.begin() as session:
        workers.judge_crashes(session, settings.worker_id, healthy=True)
        workers.report_online(
            session,
            settings.worker_id,
            device=str(runtime.engine.device),
            dtype=str(runtime.provenance["dtype"]),
            revision=runtime.provenance["revision"],
        )
    _loaded[:] = [runtime]
    metrics.INFO.labels(str(runtime.engine.device), str(runtime.provenance["dtype"])).set(1)
    log.info(
        "worker.online",
        model=settings.model,
        device=str(runtime.engine.device),
        runtime=runtime.provenance.get("runtime"),
    )
    if fallback := runtime.provenance.get("runtime_fallback"):
        log.warning("worker.runtime_fallback", model=settings.model, reason=fallback)
    return True


def register(
    sessions: sessionmaker[Session], settings: WorkerSettings, *, draining_ends: bool = True
) -> None:
    """Write the worker's row, waiting for a database that is still coming up."""
    deadline = time.monotonic() + DATABASE_PATIENCE_SECONDS
    while True:
        try:
            with sessions.begin() as session:
                workers.register(
                    session,
                    settings.worker_id,
                    model=settings.model,
                    device=settings.device,
                    dtype=settings.dtype,
                    draining_ends=draining_ends,
                )
        except OperationalError as error:
            if time.monotonic() > deadline:
                raise
            log.warning("worker.waits_for_database", error=str(error.orig).splitlines()[0])
            time.sleep(DATABASE_RETRY_SECONDS)
        else:
            return


def take_back(sessions: sessionmaker[Session], settings: WorkerSettings) -> None:
    """Give back what this worker held in a former life, in which it was killed with its child."""
    with sessions.begin() as session:
        held = workers.report_death(session, settings.worker_id, "its worker was killed")
    if held:
        log.warning("worker.took_back", leases=held)


def say_goodbye(sessions: sessionmaker[Session], settings: WorkerSettings) -> None:
    """The worker has ended, and its work is done or given back."""
    try:
        with sessions.begin() as session:
            workers.report_offline(session, settings.worker_id)
    except OperationalError as error:
        # it is not heard of any more, which tells as much
        log.warning("worker.goodbye_unsaid", error=str(error))


def failure(sessions: sessionmaker[Session], settings: WorkerSettings) -> str | None:
    """Why this worker could not load its checkpoint, since it was last registered."""
    with sessions() as session:
        error = session.scalar(workers.failure_of(settings.worker_id))
    return error["message"] if error else None


def end_sick(sessions: sessionmaker[Session], settings: WorkerSettings, error: Exception) -> NoReturn:
    """The worker was healthy once and is not any more: say so, that somebody may look at it, and end it."""
    try:
        reason = reason_of(error, "host-failed")
        log.error("worker.sick", **reason)
        with sessions.begin() as session:
            workers.report_failed(session, settings.worker_id, reason)
    finally:
        # whoever cannot say so must end all the same
        end_worker()


def end_worker() -> NoReturn:
    """In the child: end the whole worker, whose parent would else start another child."""
    os.kill(os.getppid(), signal.SIGTERM)
    os._exit(1)


def stop() -> None:
    """End the heartbeat and the decoders of this process."""
    for runtime in _loaded:
        if runtime.decoders is not None:
            runtime.decoders.close()
        runtime.heartbeat.stop()


def _load(settings: WorkerSettings, sessions: sessionmaker[Session], heartbeat: Heartbeat) -> Runtime:
    # only here, in the child: importing torch in the parent would be paid twice
    from worker.engines import device_memory, free_bytes, make_engine  # noqa: PLC0415
    from worker.labels import LabelCache  # noqa: PLC0415

    blobs = BlobStore(settings.blobs)
    blobs.check()
    engine = make_engine(settings)
    heartbeat.measure = partial(device_memory, engine.device)
    return Runtime(
        settings=settings,
        sessions=sessions,
        blobs=blobs,
        heartbeat=heartbeat,
        engine=engine,
        labels=LabelCache(engine, sessions),
        room=Room(settings.batch_items, settings.batch_bytes or free_bytes(engine.device)),
        checkpoint=settings.catalog().find(settings.model),
        running=RunningMark(settings.worker_id),
        provenance={**engine.provenance, "model": settings.model},
        decoders=open_decoders(settings, engine.provenance["pixel_path"]),
    )


def open_decoders(settings: WorkerSettings, pixel_path: dict[str, Any]) -> "DecodePool":
    """The processes that decode for this worker; whoever opens them closes them."""
    from worker.decode_pool import DecodePool  # noqa: PLC0415 - numpy, for the child alone

    return DecodePool(
        pixel_path["image_size"],
        Image.Resampling[pixel_path["resample"].upper()],
        Limits(settings.max_image_bytes, settings.max_image_pixels, settings.max_image_frames),
        processes=settings.decoders,
        seconds_per_picture=settings.decode_seconds,
        memory_bytes=settings.decode_memory_bytes,
    )


def reason_of(error: Exception, otherwise: str = "load-failed") -> dict[str, str]:
    """What is told of a worker that cannot work: a code, and a message of one line."""
    code = getattr(error, "code", otherwise)
    message = str(error).strip() or type(error).__name__
    return {"code": str(code), "message": " ".join(message.split())[:2_000]}
