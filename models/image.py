"""Pictures that tenants sent: a row here, the bytes in the blob store under the same hash."""

from sqlalchemy import BigInteger, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base
from models.types import CreatedAt, Uuid7Key


class Image(Base):
    """One picture of one tenant, addressed by its content; never shared between tenants."""

    __tablename__ = "images"
    __table_args__ = (UniqueConstraint("tenant", "sha256"),)

    id: Mapped[Uuid7Key]
    tenant: Mapped[str]
    sha256: Mapped[str]
    image_bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[CreatedAt]
