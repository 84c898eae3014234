"""A worker's runtime in the test's own process, with an engine that fails on order."""

from typing import TYPE_CHECKING, Any

import torch
from sqlalchemy.orm import Session, sessionmaker

from engine.catalog import Catalog
from engine.errors import OutOfMemoryError
from engine.siglip import SiglipEngine
from jobs.blobs import BlobStore
from tests.ledger import MODEL
from worker import canary
from worker.heartbeat import Heartbeat
from worker.labels import LabelCache
from worker.pace import Room
from worker.running import RunningMark
from worker.runtime import Runtime
from worker.settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Callable


class FailingEngine:
    """Raises what it was told to, so many times; then answers every text with the value it was told."""

    def __init__(self, error: BaseException | None = None, times: int = 1, value: float = 1.0) -> None:
        self.error = error
        self.times = times
        self.value = value
        self.before: Callable[[], object] = lambda: None
        self.batches: list[list[str]] = []
        """The texts of each pass."""
        self.poison = ""
        """A text that fails whatever pass it is in."""
        self.room = 1_000
        self.sick = False
        """Whether it fails at the canary too."""

    def embed_text(self, texts: list[str]) -> torch.Tensor:
        if self.sick:
            raise RuntimeError("an illegal memory access")
        if texts == [canary.TEXT]:
            return torch.ones(1, 4)
        self.before()
        self.batches.append(texts)
        if len(texts) > self.room:
            raise OutOfMemoryError("no room")
        if self.poison in texts:
            raise RecursionError
        if self.error is not None and self.times > 0:
            self.times -= 1
            raise self.error
        return torch.full((len(texts), 4), self.value)

    def embed_images(self, images: list[Any], **_: Any) -> torch.Tensor:
        if isinstance(images[0], torch.Tensor):
            # the canary's are none
            self.before()
        return torch.ones(len(images), 4)


def runtime_of(
    engine: FailingEngine | SiglipEngine,
    sessions: sessionmaker[Session],
    blobs: BlobStore,
    heartbeat: Heartbeat,
    **settings: Any,
) -> Runtime:
    return Runtime(
        settings=WorkerSettings(model=MODEL, **settings),
        sessions=sessions,
        blobs=blobs,
        heartbeat=heartbeat,
        engine=engine,  # type: ignore[arg-type]  # the one substitute allowed: an engine that fails on order
        labels=LabelCache(engine, sessions),  # type: ignore[arg-type]
        room=Room(settings.get("batch_items", 32), 2**31),
        checkpoint=Catalog().find(MODEL),
        running=RunningMark(heartbeat._worker_id),
    )
