"""How the dashboard's lists read their tables: a page by an index, however long the list."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Select, func, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session, sessionmaker

from jobs import accounts, audit, deliveries, endpoints, image_sets, keys, usage
from models.api_key import ApiKey
from models.types import Role
from tests.dashboard import add_account
from tests.deliveries import add_endpoint
from tests.faults import change
from tests.integration.test_plans import nodes, plan_of, rows_read

Sessions = sessionmaker[Session]
ROWS = 20_000
PAGE = 50
BEFORE = uuid.UUID(int=2**128 - 1)


def assert_pages(sessions: Sessions, table: str, *pages: Select[Any]) -> None:
    """Of each only about its own rows are read, and none sorted."""
    change(sessions, f"ANALYZE {table}")
    for page in pages:
        statement = page.compile(
            dialect=postgresql.dialect(),  # type: ignore[no-untyped-call]  # SQLAlchemy's dialects are untyped
            compile_kwargs={"literal_binds": True},
        )
        with sessions() as session:
            plan = list(nodes(plan_of(session, str(statement), {})))
        assert 0 < rows_read(plan, table) <= 2 * (PAGE + 1), (str(statement), plan)
        assert not [node for node in plan if node["Node Type"] == "Seq Scan"], str(statement)


@pytest.mark.parametrize("tenant", [None, "rare"])
def test_lists_of_sets_keys_endpoints_accounts_and_the_audit_read_a_page(
    sessions: Sessions, tenant: str | None
) -> None:
    add_account(sessions, "ada@example.org", Role.ADMIN)
    whose = "CASE WHEN n % 100 = 0 THEN 'rare' ELSE 'many' END FROM generate_series(1, :rows) AS n"
    for table, columns, values in (
        ("image_sets", "name, tenant", "n"),
        ("api_keys", "name, sha256, scopes, tenant", "n, n, ARRAY['read']"),
        ("webhook_endpoints", "url, destination, secret, tenant", "n, n, n"),
        ("accounts", "email, role, password_hash, tenant", "n || '@example.org', 'viewer', ''"),
        ("audit_entries", "actor, verb, target, account_id, tenant", "n, 'a.b', n, ids.id"),
    ):
        # of the audit, each tenth entry is of an account
        one = "SELECT id FROM accounts WHERE email = 'ada@example.org' AND n % 10 = 0"
        ids = f", LATERAL (SELECT ({one})) AS ids(id)"
        more = ids if "ids.id" in values else ""
        change(sessions, f"INSERT INTO {table} ({columns}) SELECT {values}, {whose}{more}", rows=ROWS)
    with sessions() as session:
        account = session.scalars(accounts.account_named("ada@example.org")).one()
    how: dict[str, Any] = {"before": BEFORE, "limit": PAGE}
    assert_pages(sessions, "image_sets", image_sets.sets_page(tenant, **how))
    assert_pages(sessions, "api_keys", keys.keys_page(tenant, **how))
    assert_pages(sessions, "webhook_endpoints", endpoints.endpoints_page(tenant, **how))
    assert_pages(sessions, "accounts", accounts.accounts_page(tenant, **how))
    assert_pages(sessions, "audit_entries", audit.audit_page(tenant, **how))
    if tenant is None:
        assert_pages(sessions, "audit_entries", audit.audit_page(None, account_id=account.id, **how))


def test_messages_of_an_endpoint_and_the_usage_of_keys_read_a_page(sessions: Sessions) -> None:
    first, other = add_endpoint(sessions), add_endpoint(sessions)
    change(
        sessions,
        """INSERT INTO webhook_deliveries (endpoint_id, event)
           SELECT CASE WHEN n % 100 = 0 THEN CAST(:first AS uuid) ELSE CAST(:other AS uuid) END, 'job.ended'
           FROM generate_series(1, :rows) AS n""",
        first=first,
        other=other,
        rows=ROWS,
    )
    for endpoint_id in (first, other):
        assert_pages(
            sessions,
            "webhook_deliveries",
            deliveries.deliveries_page(endpoint_id, before=BEFORE, limit=PAGE),
        )
    change(
        sessions,
        """WITH made AS (
             INSERT INTO api_keys (tenant, name, sha256, scopes)
             SELECT 'tests', n, n, ARRAY['read'] FROM generate_series(1, 500) AS n RETURNING id
           )
           INSERT INTO key_usage (key_id, day)
           SELECT id, current_date - n FROM made, generate_series(0, 99) AS n""",
    )
    with sessions() as session:
        key_ids = session.scalars(select(ApiKey.id).limit(3)).all()
        today = session.scalars(select(func.current_date())).one()
    assert_pages(sessions, "key_usage", usage.usage_since(key_ids, today - timedelta(days=29)))
