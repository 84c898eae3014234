"""Embeddings of labels' texts, kept between jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    now = sa.text("now()")
    op.create_table(
        "text_embeddings",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=now, nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), server_default=now, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "key", name=op.f("pk_text_embeddings")),
    )
    op.create_index(op.f("ix_text_embeddings_used_at"), "text_embeddings", ["used_at"])


def downgrade() -> None:
    op.drop_table("text_embeddings")
