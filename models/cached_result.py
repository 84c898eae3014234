"""Which pictures a tenant's jobs over sets have computed, so that a later one can take their numbers."""

import uuid

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base


class CachedResult(Base):
    """An item of a job that has the numbers of one picture, as one tenant asked for them.

    Of each such job there is one. No date: the row goes with the results that it names.
    """

    __tablename__ = "cached_results"
    __table_args__ = (Index("ix_cached_results_job_id", "job_id", "index"),)

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    """Half a SHA-256 of all that the numbers depend on, see `jobs.result_cache`."""
    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    index: Mapped[int]
