"""Embeddings of texts that were labels once, so that nobody waits for them again."""

from sqlalchemy import LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base
from models.types import CreatedAt


class TextEmbedding(Base):
    """One text's vector of one tenant; the key tells of the text's tokens and of what computed it."""

    __tablename__ = "text_embeddings"

    tenant: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    """SHA-256, see `engine.directions.TextTower.keys`."""
    vector: Mapped[bytes] = mapped_column(LargeBinary)
    """[width] float32 of norm 1, little-endian."""
    created_at: Mapped[CreatedAt]
    used_at: Mapped[CreatedAt] = mapped_column(index=True)
    """To within a day: see `jobs.text_cache`."""
