"""Accounts, their sessions, the audit, history by the minute, what workers say of their devices.

The request that a job was submitted with, and indexes by which the jobs of all tenants are listed, and those of a type.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("email", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=True),
        sa.Column("password_hash", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("signed_in_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("email = lower(email)", name=op.f("ck_accounts_email_lower")),
        sa.CheckConstraint("tenant <> ''", name=op.f("ck_accounts_tenant_named")),
        sa.CheckConstraint("role IN ('viewer', 'operator', 'admin')", name=op.f("ck_accounts_role_known")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accounts")),
        sa.UniqueConstraint("email", name=op.f("uq_accounts_email")),
    )
    op.create_index("ix_accounts_tenant_id", "accounts", ["tenant", sa.text("id DESC")], unique=False)
    op.create_table(
        "account_sessions",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("agent", sa.String(), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["accounts.id"],
            name=op.f("fk_account_sessions_account_id_accounts"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account_sessions")),
        sa.UniqueConstraint("sha256", name=op.f("uq_account_sessions_sha256")),
    )
    op.create_index(
        "ix_account_sessions_account_id", "account_sessions", ["account_id", sa.text("id DESC")], unique=False
    )
    op.create_index("ix_account_sessions_ends_at", "account_sessions", ["ends_at"], unique=False)
    op.create_table(
        "audit_entries",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=True),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=True),
        sa.Column("verb", sa.String(), nullable=False),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("filter", postgresql.JSONB(none_as_null=True), nullable=True),
        sa.Column("matched", sa.Integer(), nullable=True),
        sa.Column("reason", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_entries")),
    )
    op.create_index(
        "ix_audit_entries_account_id", "audit_entries", ["account_id", sa.text("id DESC")], unique=False
    )
    op.create_index(
        "ix_audit_entries_tenant_id", "audit_entries", ["tenant", sa.text("id DESC")], unique=False
    )
    op.create_table(
        "job_minutes",
        sa.Column("minute", sa.DateTime(timezone=True), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        *(
            sa.Column(name, sa.Integer(), server_default="0", nullable=False)
            for name in ("submitted", "succeeded", "partial", "failed", "cancelled", "expired")
        ),
        sa.Column("waited", sa.ARRAY(sa.Integer()), server_default="{}", nullable=False),
        sa.Column("ran", sa.ARRAY(sa.Integer()), server_default="{}", nullable=False),
        sa.PrimaryKeyConstraint("minute", "model", "tenant", name=op.f("pk_job_minutes")),
    )
    op.create_table(
        "item_minutes",
        sa.Column("minute", sa.DateTime(timezone=True), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("succeeded", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("failed", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("minute", "model", "tenant", name=op.f("pk_item_minutes")),
    )
    op.create_table(
        "job_hours",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        *(
            sa.Column(name, sa.Integer(), server_default="0", nullable=False)
            for name in ("submitted", "succeeded", "partial", "failed", "cancelled", "expired")
        ),
        sa.Column("waited", sa.ARRAY(sa.Integer()), server_default="{}", nullable=False),
        sa.Column("ran", sa.ARRAY(sa.Integer()), server_default="{}", nullable=False),
        sa.Column("items_succeeded", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("items_failed", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("tenant", "hour", "model", name=op.f("pk_job_hours")),
    )
    op.create_index("ix_job_hours_hour", "job_hours", ["hour"], unique=False)
    op.add_column("workers", sa.Column("batch_fill", sa.Float(), nullable=True))
    op.add_column("workers", sa.Column("memory_bytes", sa.BigInteger(), nullable=True))
    op.add_column("workers", sa.Column("memory_limit_bytes", sa.BigInteger(), nullable=True))
    op.add_column(
        "workers", sa.Column("finished", sa.BigInteger(), server_default=sa.text("0"), nullable=False)
    )
    op.add_column("jobs", sa.Column("request_id", sa.String(), nullable=True))
    op.add_column("jobs", sa.Column("traceparent", sa.String(), nullable=True))
    op.create_index(
        "ix_workers_started_at_id",
        "workers",
        [sa.text("started_at DESC"), sa.text("id DESC")],
        unique=False,
    )
    for name, column in (
        ("ix_jobs_state_id", "state"),
        ("ix_jobs_model_id", "model"),
        ("ix_jobs_type_id", "type"),
    ):
        op.create_index(
            name,
            "jobs",
            [column, sa.text("id DESC")],
            unique=False,
            postgresql_where=sa.text("deleted_at IS NULL"),
        )
    # with the id behind it: the newest jobs over a version, however many there are
    op.drop_index("ix_jobs_version_id", table_name="jobs")
    op.create_index(
        "ix_jobs_version_id",
        "jobs",
        ["version_id", sa.text("id DESC")],
        unique=False,
        postgresql_where=sa.text("version_id IS NOT NULL"),
    )
    op.create_index(
        "ix_jobs_ended_at",
        "jobs",
        ["ended_at"],
        unique=False,
        postgresql_where=sa.text("ended_at IS NOT NULL"),
    )
    op.create_index(
        "ix_jobs_retry_of",
        "jobs",
        ["retry_of"],
        unique=False,
        postgresql_where=sa.text("retry_of IS NOT NULL"),
    )
    op.create_index(
        "ix_results_failed",
        "results",
        ["job_id", "index"],
        unique=False,
        postgresql_where=sa.text("state = 'failed'"),
    )


def downgrade() -> None:
    op.drop_index("ix_results_failed", table_name="results")
    op.drop_index("ix_jobs_retry_of", table_name="jobs")
    op.drop_index("ix_jobs_version_id", table_name="jobs")
    op.create_index(
        "ix_jobs_version_id",
        "jobs",
        ["version_id"],
        unique=False,
        postgresql_where=sa.text("version_id IS NOT NULL"),
    )
    for name in ("ix_jobs_ended_at", "ix_jobs_type_id", "ix_jobs_model_id", "ix_jobs_state_id"):
        op.drop_index(name, table_name="jobs")
    op.drop_index("ix_workers_started_at_id", table_name="workers")
    op.drop_column("jobs", "traceparent")
    op.drop_column("jobs", "request_id")
    for name in ("finished", "memory_limit_bytes", "memory_bytes", "batch_fill"):
        op.drop_column("workers", name)
    for name in ("job_hours", "item_minutes", "job_minutes", "audit_entries", "account_sessions", "accounts"):
        op.drop_table(name)
