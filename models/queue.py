"""The clocks of the queue: how far each model's queue has come, and each flow in it."""

from typing import Final

from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base
from models.types import Priority, Timestamp, one_of

ANALYSIS: Final = "analysis"
"""Stands where a model does, for work that needs none: ingesting and summing up, by workers without a GPU."""


class Queue(Base):
    """The queue of one model."""

    __tablename__ = "queues"
    __table_args__ = ({"postgresql_with": {"fillfactor": "50"}},)

    model: Mapped[str] = mapped_column(primary_key=True)
    floor: Mapped[float] = mapped_column(server_default="0")
    """Virtual time of the work that was claimed last: where a flow that was away begins."""
    paused_at: Mapped[Timestamp | None]
    """Since then nothing of it is claimed; jobs are accepted and wait."""


class Flow(Base):
    """All that one tenant sends to one model at one priority."""

    __tablename__ = "flows"
    __table_args__ = (one_of("priority", Priority), {"postgresql_with": {"fillfactor": "50"}})

    model: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(primary_key=True)
    priority: Mapped[str] = mapped_column(primary_key=True)
    clock: Mapped[float] = mapped_column(server_default="0")
    """Virtual time at which its next work begins."""
