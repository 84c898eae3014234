"""A million jobs, as a service has them after a month, and what else the dashboard lists."""

import time

from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from engine.catalog import Catalog
from jobs.accounts import NewAccount, create_account, hash_password
from models.types import Role

DAYS = 30
TENANTS = 20
OPEN = 20_000
"""Of the newest jobs so many have not ended."""
PASSWORD = "benchmark benchmark"  # noqa: S105 - of accounts that live as long as the benchmark
ALL, ONE = "all@example.org", "one@example.org"

JOBS = """
INSERT INTO jobs (id, tenant, type, state, model, options, tags, total, succeeded, failed, dropped,
                  created_at, started_at, ended_at, expires_at)
SELECT uuidv7(-age), 'tenant-' || n % :tenants, (ARRAY['logit_lens', 'embedding'])[1 + n % 2], state,
       (CAST(:models AS text[]))[1 + n % cardinality(CAST(:models AS text[]))], '{"labels": ["cat", "dog"]}',
       jsonb_build_object('batch', (n % 1000)::text), 10,
       CASE state WHEN 'succeeded' THEN 10 WHEN 'partial' THEN 8 WHEN 'running' THEN 4 ELSE 0 END,
       CASE state WHEN 'partial' THEN 2 WHEN 'failed' THEN 10 ELSE 0 END,
       CASE WHEN state IN ('cancelled', 'expired') THEN 10 ELSE 0 END,
       now() - age, CASE WHEN state NOT IN ('queued', 'expired') THEN now() - age + interval '2 s' END,
       CASE WHEN ended THEN least(now(), now() - age + (n % 600) * interval '1 s') END,
       CASE WHEN ended THEN now() + interval '30 d' END
FROM (
    SELECT n, n * CAST(:span AS interval) / :jobs AS age, n > :open AS ended,
           CASE WHEN n <= :open THEN (ARRAY['queued', 'queued', 'queued', 'running'])[1 + n % 4]
                WHEN n % 50 = 0 THEN 'failed' WHEN n % 70 = 0 THEN 'partial'
                WHEN n % 90 = 0 THEN 'cancelled' WHEN n % 1000 = 1 THEN 'expired'
                ELSE 'succeeded' END AS state
    FROM generate_series(1, :jobs) AS n
) AS made"""
BESIDE = (
    """INSERT INTO queues (model) SELECT DISTINCT model FROM jobs ON CONFLICT DO NOTHING""",
    """INSERT INTO work (job_id, unit, model, items)
       SELECT id, 0, model, 10 FROM jobs WHERE ended_at IS NULL""",
    """INSERT INTO attempts (job_id, unit, attempt, worker_id, lease_token, ended_at, outcome)
       SELECT id, 0, 1, uuidv7(), uuidv7(), ended_at, 'completed' FROM jobs WHERE state = 'succeeded'
       LIMIT 200000""",
    """INSERT INTO workers (id, hostname, model, state, device, seen_at)
       SELECT uuidv7(), 'host-' || n, (CAST(:models AS text[]))[1 + n % cardinality(CAST(:models AS text[]))],
              'online', 'cpu', now() FROM generate_series(1, 3000) AS n""",
    """INSERT INTO image_sets (tenant, name)
       SELECT 'tenant-' || n % :tenants, 'set ' || n FROM generate_series(1, 50000) AS n""",
    """INSERT INTO image_set_versions (set_id, number, items) SELECT id, 1, 100 FROM image_sets""",
    """INSERT INTO api_keys (tenant, name, sha256, scopes)
       SELECT 'tenant-' || n % :tenants, 'key ' || n, 'sha-' || n, '{read}'
       FROM generate_series(1, 20000) AS n""",
    """INSERT INTO webhook_endpoints (tenant, url, destination, secret)
       SELECT 'tenant-' || n % :tenants, 'https://example.org/' || n, 'example.org:443', 'whsec_'
       FROM generate_series(1, 20000) AS n""",
    """INSERT INTO webhook_deliveries (endpoint_id, event, state, ended_at)
       SELECT id, 'job.ended', 'delivered', now() FROM webhook_endpoints, generate_series(1, 10)""",
    """INSERT INTO audit_entries (actor, tenant, verb, target)
       SELECT 'ada@example.org', 'tenant-' || n % :tenants, 'job.cancelled', 'job_' || n
       FROM generate_series(1, 300000) AS n""",
    """INSERT INTO job_minutes (minute, model, tenant, submitted, succeeded, failed, waited, ran)
       SELECT date_trunc('minute', ended_at), model, tenant, count(*), count(*), 0,
              array_fill(1, ARRAY[48]), array_fill(1, ARRAY[48])
       FROM jobs WHERE ended_at IS NOT NULL GROUP BY 1, 2, 3""",
    """INSERT INTO item_minutes (minute, model, tenant, succeeded)
       SELECT minute, model, tenant, succeeded * 10 FROM job_minutes""",
    """INSERT INTO job_hours (tenant, hour, model, submitted, succeeded, items_succeeded, waited, ran)
       SELECT coalesce(tenant, ''), hour, model, sum(submitted), sum(succeeded), 10 * sum(succeeded),
              array_fill(CAST(sum(succeeded) AS integer), ARRAY[48]),
              array_fill(CAST(sum(succeeded) AS integer), ARRAY[48])
       FROM (SELECT *, date_trunc('hour', minute, 'UTC') AS hour FROM job_minutes) AS minutes
       WHERE hour < date_trunc('hour', now() - interval '5 minutes', 'UTC')
       GROUP BY GROUPING SETS ((hour, model, tenant), (hour, model))""",
)


def seed(sessions: sessionmaker[Session], jobs: int) -> float:
    """Fill the tables; returns the seconds that it took."""
    since = time.monotonic()
    values = {
        "jobs": jobs,
        "open": min(OPEN, jobs // 10),
        "tenants": TENANTS,
        "span": f"{DAYS} days",
        "models": Catalog().names(),
    }
    hashed = hash_password(PASSWORD)
    with sessions.begin() as session:
        create_account(session, NewAccount(ALL, hashed, Role.ADMIN))
        create_account(session, NewAccount(ONE, hashed, Role.ADMIN, "tenant-7"))
        for statement in (JOBS, *BESIDE):
            # each takes the values that it names
            session.execute(text(statement), values)
    with sessions() as session:
        session.connection(execution_options={"isolation_level": "AUTOCOMMIT"}).execute(
            text("VACUUM ANALYZE")
        )
    return time.monotonic() - since
