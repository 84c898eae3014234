"""What happened in each minute: kept after the jobs are gone, and read by the charts of the dashboard."""

from datetime import datetime

from sqlalchemy import ARRAY, BigInteger, DateTime, Index, Integer
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base


class JobMinute(Base):
    """The jobs of one tenant and model that were submitted, or ended, in one minute."""

    __tablename__ = "job_minutes"

    minute: Mapped[datetime] = mapped_column(DateTime(timezone=True), primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(primary_key=True)
    submitted: Mapped[int] = mapped_column(server_default="0")
    succeeded: Mapped[int] = mapped_column(server_default="0")
    """Jobs that ended in this minute and state; so are the next four."""
    partial: Mapped[int] = mapped_column(server_default="0")
    failed: Mapped[int] = mapped_column(server_default="0")
    cancelled: Mapped[int] = mapped_column(server_default="0")
    expired: Mapped[int] = mapped_column(server_default="0")
    waited: Mapped[list[int]] = mapped_column(ARRAY(Integer), server_default="{}")
    """How many of those that ended waited how long for their start: counts by bucket, see `jobs.history`."""
    ran: Mapped[list[int]] = mapped_column(ARRAY(Integer), server_default="{}")
    """How many took how long from there to their end."""


class ItemMinute(Base):
    """What workers finished in one minute, of one tenant and model; they count it with their heartbeats."""

    __tablename__ = "item_minutes"

    minute: Mapped[datetime] = mapped_column(DateTime(timezone=True), primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(primary_key=True)
    succeeded: Mapped[int] = mapped_column(BigInteger, server_default="0")
    failed: Mapped[int] = mapped_column(BigInteger, server_default="0")


class JobHour(Base):
    """The sums of both over an hour that will not change any more, for charts of many days."""

    __tablename__ = "job_hours"
    __table_args__ = (Index("ix_job_hours_hour", "hour"),)

    tenant: Mapped[str] = mapped_column(primary_key=True)
    """Empty for the sum over all of them."""
    hour: Mapped[datetime] = mapped_column(DateTime(timezone=True), primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    submitted: Mapped[int] = mapped_column(server_default="0")
    succeeded: Mapped[int] = mapped_column(server_default="0")
    partial: Mapped[int] = mapped_column(server_default="0")
    failed: Mapped[int] = mapped_column(server_default="0")
    cancelled: Mapped[int] = mapped_column(server_default="0")
    expired: Mapped[int] = mapped_column(server_default="0")
    waited: Mapped[list[int]] = mapped_column(ARRAY(Integer), server_default="{}")
    ran: Mapped[list[int]] = mapped_column(ARRAY(Integer), server_default="{}")
    items_succeeded: Mapped[int] = mapped_column(BigInteger, server_default="0")
    items_failed: Mapped[int] = mapped_column(BigInteger, server_default="0")
