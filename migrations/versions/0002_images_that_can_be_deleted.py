"""Images that can be deleted, the references that forbid it, and idempotency keys."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("images", sa.Column("media_type", sa.String(), nullable=True))
    op.add_column("images", sa.Column("dying_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_images_dying_at",
        "images",
        ["dying_at"],
        unique=False,
        postgresql_where=sa.text("dying_at IS NOT NULL"),
    )
    op.add_column(
        "job_inputs",
        sa.Column("image_ids", postgresql.ARRAY(sa.Uuid()), server_default="{}", nullable=False),
    )
    # jobs that are there already refer to their pictures too
    op.execute("""
        UPDATE job_inputs SET image_ids = ARRAY(
            SELECT DISTINCT (item ->> 'image_id')::uuid FROM jsonb_array_elements(items) AS item
            WHERE item ? 'image_id'
        )
    """)
    # and the lenses that wait have all options that a worker reads
    op.execute("""
        UPDATE jobs SET options = jsonb_build_object(
            'outputs', '["pooled"]'::jsonb, 'layers', 'all', 'patch_layers', NULL, 'patch_method', 'head'
        ) || options
        WHERE type = 'logit_lens'
    """)
    op.create_index(
        "ix_job_inputs_image_ids", "job_inputs", ["image_ids"], unique=False, postgresql_using="gin"
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"],
            ["jobs.id"],
            name=op.f("fk_idempotency_keys_job_id_jobs"),
            ondelete="CASCADE",
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("tenant", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(op.f("ix_idempotency_keys_created_at"), "idempotency_keys", ["created_at"], unique=False)
    op.create_index(op.f("ix_idempotency_keys_job_id"), "idempotency_keys", ["job_id"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_idempotency_keys_job_id"), table_name="idempotency_keys")
    op.drop_index(op.f("ix_idempotency_keys_created_at"), table_name="idempotency_keys")
    op.drop_table("idempotency_keys")
    op.drop_index("ix_job_inputs_image_ids", table_name="job_inputs", postgresql_using="gin")
    op.drop_column("job_inputs", "image_ids")
    op.drop_index("ix_images_dying_at", table_name="images", postgresql_where=sa.text("dying_at IS NOT NULL"))
    op.drop_column("images", "dying_at")
    op.drop_column("images", "media_type")
