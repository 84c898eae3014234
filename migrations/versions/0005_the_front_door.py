"""Scopes and usage of keys, tags, retries and deletion of jobs, webhooks, paused queues, actions on many jobs.

And room that is set aside for jobs while they are stored.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "job_actions",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("key_id", sa.Uuid(), nullable=True),
        sa.Column("verb", sa.String(), nullable=False),
        sa.Column("filter", postgresql.JSONB(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("state", sa.String(), server_default="running", nullable=False),
        sa.Column("matched", sa.Integer(), nullable=False),
        sa.Column("done", sa.Integer(), server_default="0", nullable=False),
        sa.Column("skipped", sa.Integer(), server_default="0", nullable=False),
        sa.Column("up_to", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Uuid(), nullable=True),
        sa.Column("error", postgresql.JSONB(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("advanced_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state = 'running') = (ended_at IS NULL)", name=op.f("ck_job_actions_ended_unless_running")
        ),
        sa.CheckConstraint("state IN ('running', 'done')", name=op.f("ck_job_actions_state_known")),
        sa.CheckConstraint("verb IN ('cancel', 'retry', 'delete')", name=op.f("ck_job_actions_verb_known")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_actions")),
    )
    op.create_index(
        "ix_job_actions_running",
        "job_actions",
        ["tenant", "verb", "id"],
        unique=False,
        postgresql_where=sa.text("state = 'running'"),
    )
    op.create_index("ix_job_actions_tenant_id", "job_actions", ["tenant", sa.text("id DESC")], unique=False)
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("destination", sa.String(), nullable=False),
        sa.Column("description", sa.String(), server_default="", nullable=False),
        sa.Column("secret", sa.String(), nullable=False),
        sa.Column("previous_secret", sa.String(), nullable=True),
        sa.Column("previous_secret_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("state", sa.String(), server_default="pending", nullable=False),
        sa.Column("state_reason", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("verified_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failing_since", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('pending', 'enabled', 'disabled', 'deleted')",
            name=op.f("ck_webhook_endpoints_state_known"),
        ),
        sa.CheckConstraint(
            "(previous_secret IS NULL) = (previous_secret_until IS NULL)",
            name=op.f("ck_webhook_endpoints_previous_secret_ends"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_endpoints")),
    )
    op.create_index(
        "ix_webhook_endpoints_tenant_id", "webhook_endpoints", ["tenant", sa.text("id DESC")], unique=False
    )
    op.create_table(
        "job_events",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("settled", sa.Integer(), nullable=False),
        sa.Column("unit", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_job_events_job_id_jobs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "settled", name=op.f("pk_job_events")),
    )
    op.create_table(
        "key_usage",
        sa.Column("key_id", sa.Uuid(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("requests", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("refused", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("received_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("sent_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("jobs", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("items", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("gflop", sa.Float(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(
            ["key_id"], ["api_keys.id"], name=op.f("fk_key_usage_key_id_api_keys"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("key_id", "day", name=op.f("pk_key_usage")),
    )
    op.create_index(op.f("ix_key_usage_day"), "key_usage", ["day"], unique=False)
    op.create_table(
        "reservations",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("items", sa.Integer(), nullable=False),
        sa.Column("input_bytes", sa.BigInteger(), nullable=False),
        sa.Column("gflop", sa.Float(), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reservations")),
    )
    op.create_index("ix_reservations_tenant_name", "reservations", ["tenant", "name"], unique=False)
    op.create_index(op.f("ix_reservations_until"), "reservations", ["until"], unique=False)
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("endpoint_id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("event", sa.String(), nullable=False),
        sa.Column("redelivery_of", sa.Uuid(), nullable=True),
        sa.Column("state", sa.String(), server_default="pending", nullable=False),
        sa.Column("state_reason", sa.String(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("run_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tries", postgresql.JSONB(), server_default="[]", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state = 'pending') = (ended_at IS NULL)",
            name=op.f("ck_webhook_deliveries_ended_unless_pending"),
        ),
        sa.CheckConstraint(
            "state IN ('pending', 'delivered', 'failed')", name=op.f("ck_webhook_deliveries_state_known")
        ),
        sa.ForeignKeyConstraint(
            ["endpoint_id"],
            ["webhook_endpoints.id"],
            name=op.f("fk_webhook_deliveries_endpoint_id_webhook_endpoints"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_deliveries")),
    )
    op.create_index(
        "ix_webhook_deliveries_due",
        "webhook_deliveries",
        ["endpoint_id", "run_at"],
        unique=False,
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index(
        "ix_webhook_deliveries_ended_at",
        "webhook_deliveries",
        ["ended_at"],
        unique=False,
        postgresql_where=sa.text("state <> 'pending'"),
    )
    op.create_index(
        "ix_webhook_deliveries_endpoint_id",
        "webhook_deliveries",
        ["endpoint_id", sa.text("id DESC")],
        unique=False,
    )
    op.create_index("ix_webhook_deliveries_job_id", "webhook_deliveries", ["job_id"], unique=False)
    op.add_column("api_keys", sa.Column("hint", sa.String(), server_default="", nullable=False))
    # keys of before could do everything
    op.add_column(
        "api_keys",
        sa.Column(
            "scopes", postgresql.ARRAY(sa.Text()), server_default="{submit,read,admin}", nullable=False
        ),
    )
    op.alter_column("api_keys", "scopes", server_default=None)
    op.create_check_constraint(
        op.f("ck_api_keys_scopes_known"), "api_keys", "scopes <@ ARRAY['submit', 'read', 'admin']"
    )
    op.create_check_constraint(op.f("ck_api_keys_scopes_given"), "api_keys", "cardinality(scopes) > 0")
    op.add_column("api_keys", sa.Column("requests_per_minute", sa.Integer(), nullable=True))
    op.add_column("api_keys", sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("api_keys", sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index("ix_api_keys_tenant_id", "api_keys", ["tenant", sa.text("id DESC")], unique=False)
    op.add_column("idempotency_keys", sa.Column("made", sa.String(), server_default="job", nullable=False))
    op.drop_index(op.f("ix_idempotency_keys_job_id"), table_name="idempotency_keys")
    op.drop_constraint(op.f("fk_idempotency_keys_job_id_jobs"), "idempotency_keys", type_="foreignkey")
    op.alter_column("idempotency_keys", "job_id", new_column_name="made_id")
    op.create_check_constraint(
        op.f("ck_idempotency_keys_made_known"),
        "idempotency_keys",
        "made IN ('job', 'api_key', 'webhook_endpoint', 'job_action')",
    )
    _replace_types("'embedding', 'logit_lens', 'rescore'")
    op.drop_index("ix_jobs_tenant_id", table_name="jobs")
    op.add_column("jobs", sa.Column("key_id", sa.Uuid(), nullable=True))
    op.add_column("jobs", sa.Column("tags", postgresql.JSONB(), server_default="{}", nullable=False))
    op.add_column("jobs", sa.Column("retry_of", sa.Uuid(), nullable=True))
    op.add_column("jobs", sa.Column("attempt", sa.Integer(), server_default="1", nullable=False))
    op.add_column("jobs", sa.Column("vtime_end", sa.Float(), nullable=True))
    op.add_column("jobs", sa.Column("charge_id", sa.Uuid(), nullable=True))
    op.add_column("jobs", sa.Column("webhook_endpoint_id", sa.Uuid(), nullable=True))
    op.add_column("jobs", sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_jobs_deleted_at",
        "jobs",
        ["deleted_at"],
        unique=False,
        postgresql_where=sa.text("deleted_at IS NOT NULL"),
    )
    op.create_index(
        "ix_jobs_tags",
        "jobs",
        ["tags"],
        unique=False,
        postgresql_using="gin",
        postgresql_ops={"tags": "jsonb_path_ops"},
    )
    op.create_index(
        "ix_jobs_tenant_id",
        "jobs",
        ["tenant", sa.text("id DESC")],
        unique=False,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(
        "ix_jobs_tenant_model_id",
        "jobs",
        ["tenant", "model", sa.text("id DESC")],
        unique=False,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(
        "ix_jobs_tenant_state_id",
        "jobs",
        ["tenant", "state", sa.text("id DESC")],
        unique=False,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.add_column("queues", sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("queues", "paused_at")
    op.drop_index(
        "ix_jobs_tenant_state_id", table_name="jobs", postgresql_where=sa.text("deleted_at IS NULL")
    )
    op.drop_index(
        "ix_jobs_tenant_model_id", table_name="jobs", postgresql_where=sa.text("deleted_at IS NULL")
    )
    op.drop_index(
        "ix_jobs_tags", table_name="jobs", postgresql_using="gin", postgresql_ops={"tags": "jsonb_path_ops"}
    )
    op.drop_index("ix_jobs_deleted_at", table_name="jobs", postgresql_where=sa.text("deleted_at IS NOT NULL"))
    op.drop_index("ix_jobs_tenant_id", table_name="jobs")
    # nor of these jobs
    op.execute("DELETE FROM jobs WHERE deleted_at IS NOT NULL OR type = 'rescore'")
    _replace_types("'embedding', 'logit_lens'")
    op.drop_column("jobs", "deleted_at")
    op.drop_column("jobs", "webhook_endpoint_id")
    op.drop_column("jobs", "charge_id")
    op.drop_column("jobs", "vtime_end")
    op.drop_column("jobs", "attempt")
    op.drop_column("jobs", "retry_of")
    op.drop_column("jobs", "tags")
    op.drop_column("jobs", "key_id")
    op.create_index("ix_jobs_tenant_id", "jobs", ["tenant", sa.text("id DESC")], unique=False)
    # what older code does not know of: keys of other things than jobs, and of jobs that are gone
    op.execute("DELETE FROM idempotency_keys WHERE made <> 'job' OR made_id NOT IN (SELECT id FROM jobs)")
    op.drop_column("idempotency_keys", "made")
    op.alter_column("idempotency_keys", "made_id", new_column_name="job_id")
    op.create_foreign_key(
        op.f("fk_idempotency_keys_job_id_jobs"),
        "idempotency_keys",
        "jobs",
        ["job_id"],
        ["id"],
        ondelete="CASCADE",
        initially="DEFERRED",
        deferrable=True,
    )
    op.create_index(op.f("ix_idempotency_keys_job_id"), "idempotency_keys", ["job_id"], unique=False)
    op.drop_index("ix_api_keys_tenant_id", table_name="api_keys")
    op.drop_column("api_keys", "last_used_at")
    op.drop_column("api_keys", "expires_at")
    op.drop_column("api_keys", "requests_per_minute")
    op.drop_column("api_keys", "scopes")
    op.drop_column("api_keys", "hint")
    op.drop_index("ix_webhook_deliveries_job_id", table_name="webhook_deliveries")
    op.drop_index("ix_webhook_deliveries_endpoint_id", table_name="webhook_deliveries")
    op.drop_index(
        "ix_webhook_deliveries_ended_at",
        table_name="webhook_deliveries",
        postgresql_where=sa.text("state <> 'pending'"),
    )
    op.drop_index(
        "ix_webhook_deliveries_due",
        table_name="webhook_deliveries",
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.drop_table("webhook_deliveries")
    op.drop_index(op.f("ix_reservations_until"), table_name="reservations")
    op.drop_index("ix_reservations_tenant_name", table_name="reservations")
    op.drop_table("reservations")
    op.drop_index(op.f("ix_key_usage_day"), table_name="key_usage")
    op.drop_table("key_usage")
    op.drop_table("job_events")
    op.drop_index("ix_webhook_endpoints_tenant_id", table_name="webhook_endpoints")
    op.drop_table("webhook_endpoints")
    op.drop_index("ix_job_actions_tenant_id", table_name="job_actions")
    op.drop_index(
        "ix_job_actions_running", table_name="job_actions", postgresql_where=sa.text("state = 'running'")
    )
    op.drop_table("job_actions")


def _replace_types(known: str) -> None:
    op.drop_constraint(op.f("ck_jobs_type_known"), "jobs", type_="check")
    op.create_check_constraint(op.f("ck_jobs_type_known"), "jobs", f"type IN ({known})")
