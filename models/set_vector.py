"""Final embeddings of the pictures of sealed versions, which are searched by pgvector."""

import uuid
from typing import Any, Final

from sqlalchemy import ForeignKey, ForeignKeyConstraint, Index, literal_column, text
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import UserDefinedType

from models.base import Base
from models.types import CreatedAt, Timestamp

INDEXED_WIDTHS: Final = (128, 768, 1024, 1152)
"""Of the demo checkpoint and of the eleven: an index is over vectors of one width."""
INLINE_BYTES: Final = 8160
"""A vector stays in its row where a page can hold it: a scan that fetched each of a thousand numbers from
elsewhere would take three times as long."""


class HalfVec(UserDefinedType[str]):
    """pgvector's halfvec, a float16 a number, without a width: each row has that of its model."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """Its name in SQL."""
        return "HALFVEC"


# what is read back from a database is compared with the tables
ischema_names["halfvec"] = HalfVec


class SetIndex(Base):
    """That a version can be searched by a model, or soon can: the head of its vectors."""

    __tablename__ = "set_indexes"

    version_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("image_set_versions.id", ondelete="CASCADE"), primary_key=True
    )
    model: Mapped[str] = mapped_column(primary_key=True)
    width: Mapped[int]
    """Numbers of each of its vectors."""
    large: Mapped[bool]
    """Whether its vectors are found by an index over all large versions; else all of its own are read."""
    weights_sha256: Mapped[str | None]
    """What they were computed with: vectors of other weights say nothing to them."""
    vectors: Mapped[int] = mapped_column(server_default="0")
    created_at: Mapped[CreatedAt]
    indexed_at: Mapped[Timestamp | None]
    """When the last vector of a job was stored; none before that, and it is not searched."""


class SetVector(Base):
    """The final embedding of one item, of norm 1."""

    __tablename__ = "set_vectors"
    __table_args__ = (
        ForeignKeyConstraint(
            ["version_id", "model"], ["set_indexes.version_id", "set_indexes.model"], ondelete="CASCADE"
        ),
        *(
            Index(
                f"ix_set_vectors_hnsw_{width}",
                literal_column(f"CAST(vec AS halfvec({width}))").label("wide"),
                postgresql_using="hnsw",
                postgresql_ops={"wide": "halfvec_cosine_ops"},
                postgresql_where=text(f"width = {width} AND large"),
            )
            for width in INDEXED_WIDTHS
        ),
        {"postgresql_with": {"toast_tuple_target": INLINE_BYTES}},
    )

    version_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    index: Mapped[int] = mapped_column(primary_key=True)
    """The item's place in its version."""
    width: Mapped[int]
    large: Mapped[bool]
    """Both as the head says: the conditions of the indexes."""
    vec: Mapped[str] = mapped_column(HalfVec)
