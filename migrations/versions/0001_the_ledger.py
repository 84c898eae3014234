"""The ledger: jobs, their inputs, work, attempts, leases and results; images, keys and workers."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None


def upgrade() -> None:

    op.create_table(
        "api_keys",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("sha256", name=op.f("uq_api_keys_sha256")),
    )
    op.create_table(
        "images",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("image_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_images")),
        sa.UniqueConstraint("tenant", "sha256", name=op.f("uq_images_tenant_sha256")),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("state", sa.String(), server_default="queued", nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("options", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("succeeded", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("dropped", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("provenance", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.CheckConstraint(
            "(state IN ('succeeded', 'partial', 'failed', 'cancelled', 'expired')) = (succeeded + failed + dropped = total)",
            name=op.f("ck_jobs_ended_exactly_when_counted"),
        ),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'cancelling', 'succeeded', 'partial', 'failed', 'cancelled', 'expired')",
            name=op.f("ck_jobs_state_known"),
        ),
        sa.CheckConstraint("type IN ('embedding', 'logit_lens')", name=op.f("ck_jobs_type_known")),
        sa.CheckConstraint("succeeded + failed + dropped <= total", name=op.f("ck_jobs_counts_within_total")),
        sa.CheckConstraint("total > 0", name=op.f("ck_jobs_total_positive")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
    )
    op.create_index("ix_jobs_tenant_id", "jobs", ["tenant", sa.literal_column("id DESC")], unique=False)
    op.create_table(
        "leases",
        sa.Column("token", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("worker_id", sa.Uuid(), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("hard_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ttl", sa.Interval(), nullable=False),
        sa.PrimaryKeyConstraint("token", name=op.f("pk_leases")),
        postgresql_with={"fillfactor": "70"},
    )
    op.create_index("ix_leases_until", "leases", ["until"], unique=False)
    op.create_table(
        "workers",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("hostname", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("device", sa.String(), nullable=True),
        sa.Column("dtype", sa.String(), nullable=True),
        sa.Column("revision", sa.String(), nullable=True),
        sa.Column("error", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "state IN ('starting', 'online', 'failed', 'offline')", name=op.f("ck_workers_state_known")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
        postgresql_with={"fillfactor": "70"},
    )
    op.create_index(op.f("ix_workers_model"), "workers", ["model"], unique=False)
    op.create_table(
        "attempts",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("unit", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("worker_id", sa.Uuid(), nullable=False),
        sa.Column("lease_token", sa.Uuid(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.Column("reason", sa.String(), nullable=True),
        sa.CheckConstraint(
            "outcome IN ('completed', 'released', 'lost')", name=op.f("ck_attempts_outcome_known")
        ),
        sa.CheckConstraint(
            "(outcome IS NULL) = (ended_at IS NULL)", name=op.f("ck_attempts_outcome_when_ended")
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_attempts_job_id_jobs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "unit", "attempt", name=op.f("pk_attempts")),
    )
    op.create_index(
        "ix_attempts_lease_token",
        "attempts",
        ["lease_token"],
        unique=False,
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_table(
        "job_inputs",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("unit", sa.Integer(), nullable=False),
        sa.Column("items", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_job_inputs_job_id_jobs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "unit", name=op.f("pk_job_inputs")),
    )
    op.create_table(
        "results",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("item", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("payload", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("error", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.CheckConstraint(
            "(state = 'failed') = (error IS NOT NULL)", name=op.f("ck_results_error_when_failed")
        ),
        sa.CheckConstraint(
            "(state = 'succeeded') = (payload IS NOT NULL)", name=op.f("ck_results_payload_when_succeeded")
        ),
        sa.CheckConstraint("state IN ('succeeded', 'failed')", name=op.f("ck_results_state_known")),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_results_job_id_jobs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "index", name=op.f("pk_results")),
    )
    op.create_table(
        "work",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("unit", sa.Integer(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("items", sa.Integer(), nullable=False),
        sa.Column("run_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("losses", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lease_token", sa.Uuid(), nullable=True),
        sa.CheckConstraint("items > 0", name=op.f("ck_work_items_positive")),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_work_job_id_jobs"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["lease_token"],
            ["leases.token"],
            name=op.f("fk_work_lease_token_leases"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_work")),
        postgresql_with={
            "fillfactor": "70",
            "autovacuum_vacuum_scale_factor": "0.02",
            "autovacuum_vacuum_threshold": "200",
        },
    )
    op.create_index(
        "ix_work_claimable",
        "work",
        ["model", "id"],
        unique=False,
        postgresql_where=sa.text("lease_token IS NULL"),
    )
    op.create_index(
        "ix_work_lease_token",
        "work",
        ["lease_token"],
        unique=False,
        postgresql_where=sa.text("lease_token IS NOT NULL"),
    )
    op.create_index("ix_work_lost", "work", ["losses"], unique=False, postgresql_where=sa.text("losses > 0"))
    op.create_index("uq_work_job_id_unit", "work", ["job_id", "unit"], unique=True)


def downgrade() -> None:

    op.drop_index("ix_work_lost", table_name="work", postgresql_where=sa.text("losses > 0"))
    op.drop_index("uq_work_job_id_unit", table_name="work")
    op.drop_index(
        "ix_work_lease_token", table_name="work", postgresql_where=sa.text("lease_token IS NOT NULL")
    )
    op.drop_index("ix_work_claimable", table_name="work", postgresql_where=sa.text("lease_token IS NULL"))
    op.drop_table("work")
    op.drop_table("results")
    op.drop_table("job_inputs")
    op.drop_index(
        "ix_attempts_lease_token", table_name="attempts", postgresql_where=sa.text("ended_at IS NULL")
    )
    op.drop_table("attempts")
    op.drop_index(op.f("ix_workers_model"), table_name="workers")
    op.drop_table("workers")
    op.drop_index("ix_leases_until", table_name="leases")
    op.drop_table("leases")
    op.drop_index("ix_jobs_tenant_id", table_name="jobs")
    op.drop_table("jobs")
    op.drop_table("images")
    op.drop_table("api_keys")
