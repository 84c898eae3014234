"""Image sets: named collections of pictures, their sealed versions, and what lies at each place of one."""

import uuid
from typing import Any

from sqlalchemy import ARRAY, BigInteger, CheckConstraint, ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base
from models.types import CreatedAt, Timestamp, Uuid7Key


class ImageSet(Base):
    """A named collection of one tenant's pictures; what is in it, its versions say."""

    __tablename__ = "image_sets"
    __table_args__ = (
        Index(
            "ix_image_sets_tenant_id", "tenant", text("id DESC"), postgresql_where=text("deleted_at IS NULL")
        ),
        Index("ix_image_sets_deleted_at", "deleted_at", postgresql_where=text("deleted_at IS NOT NULL")),
    )

    id: Mapped[Uuid7Key]
    tenant: Mapped[str]
    name: Mapped[str]
    source: Mapped[str] = mapped_column(server_default="")
    """Where its pictures come from, in the client's words; so are licence and notes."""
    licence: Mapped[str] = mapped_column(server_default="")
    notes: Mapped[str] = mapped_column(server_default="")
    created_at: Mapped[CreatedAt]
    deleted_at: Mapped[Timestamp | None]


class ImageSetVersion(Base):
    """One list of items: open until it is sealed, and never changed after that."""

    __tablename__ = "image_set_versions"
    __table_args__ = (
        UniqueConstraint("set_id", "number"),
        CheckConstraint("(sealed_at IS NULL) = (manifest_sha256 IS NULL)", name="manifest_when_sealed"),
        # one open version at a time
        Index(
            "uq_image_set_versions_open", "set_id", unique=True, postgresql_where=text("sealed_at IS NULL")
        ),
    )

    id: Mapped[Uuid7Key]
    set_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("image_sets.id", ondelete="CASCADE"))
    number: Mapped[int]
    items: Mapped[int] = mapped_column(server_default="0")
    """All of them, also those that are no picture."""
    failed: Mapped[int] = mapped_column(server_default="0")
    labelled: Mapped[int] = mapped_column(server_default="0")
    image_bytes: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """Of all pictures, each as often as it is named."""
    manifest_sha256: Mapped[str | None]
    """Over all items in their order, see `jobs.sealing`."""
    created_at: Mapped[CreatedAt]
    sealed_at: Mapped[Timestamp | None]


class ImageSetItem(Base):
    """What lies at one place of a version: a picture, or why there is none."""

    __tablename__ = "image_set_items"
    __table_args__ = (
        UniqueConstraint("version_id", "custom_id"),
        CheckConstraint("(image_id IS NULL) = (error IS NOT NULL)", name="image_or_error"),
        CheckConstraint("(image_id IS NULL) = (sha256 IS NULL)", name="image_with_content"),
        CheckConstraint("true_label IS NULL OR true_labels IS NULL", name="one_label_or_several"),
        Index("ix_image_set_items_image_id", "image_id"),
        Index("ix_image_set_items_failed", "version_id", "index", postgresql_where=text("error IS NOT NULL")),
    )

    version_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("image_set_versions.id", ondelete="CASCADE"), primary_key=True
    )
    index: Mapped[int] = mapped_column(primary_key=True)
    custom_id: Mapped[str | None]
    image_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("images.id"))
    sha256: Mapped[str | None]
    image_bytes: Mapped[int] = mapped_column(server_default="0")
    true_label: Mapped[str | None]
    true_labels: Mapped[list[str] | None] = mapped_column(ARRAY(String))
    """In the place of `true_label` where several may be true at once."""
    split: Mapped[str | None]
    error: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """Why it is no picture: code, message, retryable."""
