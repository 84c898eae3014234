"""Pictures that tenants sent: a row here, the bytes in the blob store under the same hash."""

from sqlalchemy import BigInteger, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base
from models.types import CreatedAt, Timestamp, Uuid7Key


class Image(Base):
    """One picture of one tenant, addressed by its content; never shared between tenants."""

    __tablename__ = "images"
    __table_args__ = (
        UniqueConstraint("tenant", "sha256"),
        Index("ix_images_dying_at", "dying_at", postgresql_where=text("dying_at IS NOT NULL")),
    )

    id: Mapped[Uuid7Key]
    tenant: Mapped[str]
    sha256: Mapped[str]
    image_bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[CreatedAt]
    media_type: Mapped[str | None]
    """What the first bytes claim; none when they are no picture that the service reads."""
    dying_at: Mapped[Timestamp | None]
    """When it was deleted: unknown from then on, removed an hour later unless the same bytes come again."""
