"""Queues on the wire."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.models import QueueView
from models.queue import Queue


class ModelQueueView(QueueView):
    """The queue of a model."""

    model_config = ConfigDict(protected_namespaces=())

    model: str
    paused_at: datetime | None = Field(
        description="Since then nothing of it is claimed; null where nobody paused it."
    )


class QueuesPage(BaseModel):
    """Every queue that was used or paused at some time, by the name of its model."""

    items: list[ModelQueueView]


def view(queue: Queue, waiting: int | None, running: int | None, oldest_s: float | None) -> ModelQueueView:
    """What the wire shows of a queue."""
    return ModelQueueView(
        model=queue.model,
        paused_at=queue.paused_at,
        waiting_items=waiting or 0,
        running_items=running or 0,
        oldest_s=None if oldest_s is None else round(max(oldest_s, 0.0), 1),
    )
