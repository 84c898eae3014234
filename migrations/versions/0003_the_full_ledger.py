"""Queues that are fair, batches across jobs, strikes, deadlines, and results that expire."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

INDEXES = (
    ("ix_jobs_open", "jobs", ["tenant"], "ended_at IS NULL"),
    ("ix_jobs_start_by", "jobs", ["start_by"], "state = 'queued' AND start_by IS NOT NULL"),
    ("ix_jobs_run_until", "jobs", ["run_until"], "ended_at IS NULL AND run_until IS NOT NULL"),
    ("ix_jobs_cancelling", "jobs", ["id"], "state = 'cancelling'"),
    ("ix_jobs_expires_at", "jobs", ["expires_at"], "results_removed_at IS NULL"),
    ("ix_work_claimable", "work", ["model", "vtime", "id"], "lease_token IS NULL"),
    ("ix_work_batch", "work", ["model", "batch_key", "vtime", "id"], "lease_token IS NULL AND items = 1"),
    ("ix_work_struck", "work", ["strikes"], "strikes > 0"),
    ("ix_attempts_unjudged", "attempts", ["worker_id"], "outcome = 'crashed' AND NOT judged"),
)


def upgrade() -> None:
    for column in _job_columns():
        op.add_column("jobs", column)
    for column in _work_columns():
        op.add_column("work", column)
    # what shares a key shares a pass, with the labels of the first: old work shares with none
    op.execute("UPDATE work SET batch_key = id::text")
    op.add_column("attempts", sa.Column("judged", sa.Boolean(), server_default="false", nullable=False))
    op.add_column("workers", sa.Column("seconds_per_gflop", sa.Float(), nullable=True))
    op.create_check_constraint(op.f("ck_jobs_priority_known"), "jobs", "priority IN ('interactive', 'bulk')")
    _replace_check("attempts", "outcome", "'completed', 'released', 'lost', 'crashed'")
    _replace_check("workers", "state", "'starting', 'online', 'draining', 'failed', 'offline'")
    op.drop_index("ix_work_claimable", table_name="work")
    for name, table, columns, where in INDEXES:
        op.create_index(name, table, columns, unique=False, postgresql_where=sa.text(where))
    op.create_table(
        "queues",
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("floor", sa.Float(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("model", name=op.f("pk_queues")),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_table(
        "flows",
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("priority", sa.String(), nullable=False),
        sa.Column("clock", sa.Float(), server_default="0", nullable=False),
        sa.CheckConstraint("priority IN ('interactive', 'bulk')", name=op.f("ck_flows_priority_known")),
        sa.PrimaryKeyConstraint("model", "tenant", "priority", name=op.f("pk_flows")),
        postgresql_with={"fillfactor": "50"},
    )
    # work that waits is invited by its queue
    op.execute("INSERT INTO queues (model) SELECT DISTINCT model FROM work")


def downgrade() -> None:
    op.drop_table("flows")
    op.drop_table("queues")
    for name, table, _, where in reversed(INDEXES):
        op.drop_index(name, table_name=table, postgresql_where=sa.text(where))
    op.create_index(
        "ix_work_claimable",
        "work",
        ["model", "id"],
        unique=False,
        postgresql_where=sa.text("lease_token IS NULL"),
    )
    op.execute("UPDATE workers SET state = 'online' WHERE state = 'draining'")
    _replace_check("workers", "state", "'starting', 'online', 'failed', 'offline'")
    op.execute("UPDATE attempts SET outcome = 'lost' WHERE outcome = 'crashed'")
    _replace_check("attempts", "outcome", "'completed', 'released', 'lost'")
    op.drop_constraint(op.f("ck_jobs_priority_known"), "jobs", type_="check")
    op.drop_column("workers", "seconds_per_gflop")
    op.drop_column("attempts", "judged")
    for column in _work_columns():
        op.drop_column("work", column.name)
    for column in _job_columns():
        op.drop_column("jobs", column.name)


def _replace_check(table: str, column: str, values: str) -> None:
    name = op.f(f"ck_{table}_{column}_known")
    op.drop_constraint(name, table, type_="check")
    op.create_check_constraint(name, table, f"{column} IN ({values})")


def _job_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("priority", sa.String(), server_default="interactive", nullable=False),
        sa.Column("cost", sa.Float(), server_default="0", nullable=False),
        sa.Column("input_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("start_by", sa.DateTime(timezone=True), nullable=True),
        sa.Column("run_timeout", sa.Interval(), nullable=True),
        sa.Column("run_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("result_ttl", sa.Interval(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("results_removed_at", sa.DateTime(timezone=True), nullable=True),
    ]


def _work_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("vtime", sa.Float(), server_default="0", nullable=False),
        sa.Column("cost", sa.Float(), server_default="0", nullable=False),
        sa.Column("batch_key", sa.String(), server_default="", nullable=False),
        sa.Column("item_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("strikes", sa.Integer(), server_default="0", nullable=False),
    ]
