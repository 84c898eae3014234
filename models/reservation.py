"""Room that is set aside for jobs while they are being stored."""

from sqlalchemy import BigInteger, Index
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base
from models.types import Timestamp, Uuid7Key


class Reservation(Base):
    """What one job that was admitted, and is not stored yet, counts against its tenant's quota."""

    __tablename__ = "reservations"
    __table_args__ = (Index("ix_reservations_tenant_name", "tenant", "name"),)

    id: Mapped[Uuid7Key]
    tenant: Mapped[str]
    name: Mapped[str]
    """Several of one name are for one job, sent several times."""
    items: Mapped[int]
    input_bytes: Mapped[int] = mapped_column(BigInteger)
    gflop: Mapped[float]
    until: Mapped[Timestamp] = mapped_column(index=True)
    """Whoever it was made for is not there any more, if it has not gone before."""
