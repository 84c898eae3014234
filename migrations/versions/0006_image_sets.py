"""Image sets with their versions and items, jobs over a version, and two types of jobs on CPU workers."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"

TYPES = ("embedding", "logit_lens", "rescore")
NEW_TYPES = (*TYPES, "ingest", "summary")
MADE = ("job", "api_key", "webhook_endpoint", "job_action")
NEW_MADE = (*MADE, "image_set", "set_items")


def upgrade() -> None:
    op.create_table(
        "image_sets",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("source", sa.String(), server_default="", nullable=False),
        sa.Column("licence", sa.String(), server_default="", nullable=False),
        sa.Column("notes", sa.String(), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_image_sets")),
    )
    op.create_index(
        "ix_image_sets_tenant_id",
        "image_sets",
        ["tenant", sa.text("id DESC")],
        unique=False,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(
        "ix_image_sets_deleted_at",
        "image_sets",
        ["deleted_at"],
        unique=False,
        postgresql_where=sa.text("deleted_at IS NOT NULL"),
    )
    op.create_table(
        "image_set_versions",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("set_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("items", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("labelled", sa.Integer(), server_default="0", nullable=False),
        sa.Column("image_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("manifest_sha256", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("sealed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(sealed_at IS NULL) = (manifest_sha256 IS NULL)",
            name=op.f("ck_image_set_versions_manifest_when_sealed"),
        ),
        sa.ForeignKeyConstraint(
            ["set_id"],
            ["image_sets.id"],
            name=op.f("fk_image_set_versions_set_id_image_sets"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_image_set_versions")),
        sa.UniqueConstraint("set_id", "number", name=op.f("uq_image_set_versions_set_id_number")),
    )
    op.create_index(
        "uq_image_set_versions_open",
        "image_set_versions",
        ["set_id"],
        unique=True,
        postgresql_where=sa.text("sealed_at IS NULL"),
    )
    op.create_table(
        "image_set_items",
        sa.Column("version_id", sa.Uuid(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("custom_id", sa.String(), nullable=True),
        sa.Column("image_id", sa.Uuid(), nullable=True),
        sa.Column("sha256", sa.String(), nullable=True),
        sa.Column("image_bytes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("true_label", sa.String(), nullable=True),
        sa.Column("split", sa.String(), nullable=True),
        sa.Column("error", postgresql.JSONB(none_as_null=True), nullable=True),
        sa.CheckConstraint(
            "(image_id IS NULL) = (error IS NOT NULL)", name=op.f("ck_image_set_items_image_or_error")
        ),
        sa.CheckConstraint(
            "(image_id IS NULL) = (sha256 IS NULL)", name=op.f("ck_image_set_items_image_with_content")
        ),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name=op.f("fk_image_set_items_image_id_images")),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["image_set_versions.id"],
            name=op.f("fk_image_set_items_version_id_image_set_versions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("version_id", "index", name=op.f("pk_image_set_items")),
        sa.UniqueConstraint("version_id", "custom_id", name=op.f("uq_image_set_items_version_id_custom_id")),
    )
    op.create_index("ix_image_set_items_image_id", "image_set_items", ["image_id"], unique=False)
    op.create_index(
        "ix_image_set_items_failed",
        "image_set_items",
        ["version_id", "index"],
        unique=False,
        postgresql_where=sa.text("error IS NOT NULL"),
    )
    op.add_column("jobs", sa.Column("version_id", sa.Uuid(), nullable=True))
    op.create_index(
        "ix_jobs_version_id",
        "jobs",
        ["version_id"],
        unique=False,
        postgresql_where=sa.text("version_id IS NOT NULL"),
    )
    _allow("jobs", "type", NEW_TYPES)
    op.add_column(
        "idempotency_keys",
        sa.Column("told", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
    )
    _allow("idempotency_keys", "made", NEW_MADE)


def downgrade() -> None:
    # jobs that the version before does not know end with it
    op.execute("DELETE FROM jobs WHERE type IN ('ingest', 'summary')")
    _allow("jobs", "type", TYPES)
    op.execute("DELETE FROM idempotency_keys WHERE made IN ('image_set', 'set_items')")
    _allow("idempotency_keys", "made", MADE)
    op.drop_column("idempotency_keys", "told")
    op.drop_index("ix_jobs_version_id", table_name="jobs")
    op.drop_column("jobs", "version_id")
    op.drop_table("image_set_items")
    op.drop_table("image_set_versions")
    op.drop_table("image_sets")


def _allow(table: str, column: str, values: tuple[str, ...]) -> None:
    name = op.f(f"ck_{table}_{column}_known")
    op.drop_constraint(name, table, type_="check")
    known = ", ".join(f"'{value}'" for value in values)
    op.create_check_constraint(name, table, f"{column} IN ({known})")
