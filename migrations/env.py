"""Runs migrations against the database given by `models.schema` or by LENSQUEUE_DATABASE_URL."""

import os

from alembic import context
from sqlalchemy import create_engine, pool, text

from models.tables import metadata

MIGRATION_LOCK = 0x4C51_4D49  # one migration at a time, whoever starts it


def run() -> None:
    url = context.config.attributes.get("database_url") or os.environ["LENSQUEUE_DATABASE_URL"]
    engine = create_engine(url, poolclass=pool.NullPool)
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=metadata, transaction_per_migration=False)
        with context.begin_transaction():
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
            context.run_migrations()


run()
