"""Image sets with their versions and items, jobs over a version, and five types of jobs on CPU workers.

What is found in a version is searched by its vectors: pgvector from here on.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from models.schema import NotFitError

revision = "0006"
down_revision = "0005"

TYPES = ("embedding", "logit_lens", "rescore")
NEW_TYPES = (*TYPES, "ingest", "summary", "comparison", "drift", "index")
MADE = ("job", "api_key", "webhook_endpoint", "job_action")
NEW_MADE = (*MADE, "image_set", "set_items")
WIDTHS = (128, 768, 1024, 1152)
PGVECTOR = (0, 8)
"""The first version that goes on reading an index until a filter has found enough."""


class _HalfVec(sa.types.UserDefinedType[str]):
    """pgvector's halfvec, without a width."""

    def get_col_spec(self, **_: Any) -> str:
        return "HALFVEC"


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
        sa.Column("true_labels", sa.ARRAY(sa.String()), nullable=True),
        sa.Column("split", sa.String(), nullable=True),
        sa.Column("error", postgresql.JSONB(none_as_null=True), nullable=True),
        sa.CheckConstraint(
            "(image_id IS NULL) = (error IS NOT NULL)", name=op.f("ck_image_set_items_image_or_error")
        ),
        sa.CheckConstraint(
            "(image_id IS NULL) = (sha256 IS NULL)", name=op.f("ck_image_set_items_image_with_content")
        ),
        sa.CheckConstraint(
            "true_label IS NULL OR true_labels IS NULL",
            name=op.f("ck_image_set_items_one_label_or_several"),
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
    op.create_table(
        "cached_results",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_cached_results_job_id_jobs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", "job_id", name=op.f("pk_cached_results")),
    )
    op.create_index("ix_cached_results_job_id", "cached_results", ["job_id", "index"], unique=False)
    _require_pgvector()
    _create_vectors()


def downgrade() -> None:
    # the extension stays: it may have been there before, and others may use it
    op.drop_table("set_vectors")
    op.drop_table("set_indexes")
    op.drop_table("cached_results")
    # jobs that the version before does not know end with it
    op.execute("DELETE FROM jobs WHERE type IN ('ingest', 'summary', 'comparison', 'drift', 'index')")
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


def _require_pgvector() -> None:
    """Create the extension where it is missing; end the migration, saying what to do, where that fails."""
    connection = op.get_bind()
    try:
        # nothing, and no right of anybody, where an administrator created it before
        connection.execute(sa.text("CREATE EXTENSION IF NOT EXISTS vector"))
    except sa.exc.DBAPIError as error:
        raise NotFitError(
            "This database needs the extension `vector` (pgvector 0.8 or newer), and it could not be created:"
            f" {str(error.orig).splitlines()[0]}. Install pgvector on the database's server (the image"
            " pgvector/pgvector:0.8.5-pg18 has it), have a superuser run `CREATE EXTENSION vector` in this"
            " database, and migrate again."
        ) from None
    version = connection.scalar(sa.text("SELECT extversion FROM pg_extension WHERE extname = 'vector'"))
    if tuple(int(part) for part in version.split(".")[:2]) < PGVECTOR:
        raise NotFitError(
            f"This database has pgvector {version}, and 0.8 or newer is needed. Update pgvector on the"
            " database's server, have a superuser run `ALTER EXTENSION vector UPDATE` in this database, and"
            " migrate again."
        )


def _create_vectors() -> None:
    op.create_table(
        "set_indexes",
        sa.Column("version_id", sa.Uuid(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("large", sa.Boolean(), nullable=False),
        sa.Column("weights_sha256", sa.String(), nullable=True),
        sa.Column("vectors", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("indexed_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["image_set_versions.id"],
            name=op.f("fk_set_indexes_version_id_image_set_versions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("version_id", "model", name=op.f("pk_set_indexes")),
    )
    op.create_table(
        "set_vectors",
        sa.Column("version_id", sa.Uuid(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("large", sa.Boolean(), nullable=False),
        sa.Column("vec", _HalfVec(), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id", "model"],
            ["set_indexes.version_id", "set_indexes.model"],
            name=op.f("fk_set_vectors_version_id_set_indexes"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("version_id", "model", "index", name=op.f("pk_set_vectors")),
        # a vector stays in its row where a page can hold it
        postgresql_with={"toast_tuple_target": 8160},
    )
    for width in WIDTHS:
        op.execute(
            f"CREATE INDEX ix_set_vectors_hnsw_{width} ON set_vectors"
            f" USING hnsw (CAST(vec AS halfvec({width})) halfvec_cosine_ops)"
            f" WHERE width = {width} AND large"
        )
