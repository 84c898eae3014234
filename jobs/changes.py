"""Whether what a page shows has changed: a mark of it, read by index from few rows, equal while nothing has.

Each statement tells one value; where it differs from the one before, something is new. Of long lists only
what stands first is looked at, as on the page.
"""

from typing import Final

from sqlalchemy import TextClause, text

ROWS: Final = 50
WORKERS: Final = 500

_OF_JOB: Final = "id, state, succeeded, failed, dropped, started_at, deleted_at, results_removed_at"


def _mark(rows: str, order: str) -> str:
    return f"SELECT md5(string_agg(CAST(shown AS text), ' ' ORDER BY {order})) FROM ({rows}) AS shown"  # noqa: S608 - of SQL in this code


def _jobs(tenant: str) -> str:
    newest = f"SELECT {_OF_JOB} FROM jobs WHERE deleted_at IS NULL {tenant} ORDER BY id DESC LIMIT {ROWS}"  # noqa: S608 - of SQL in this code
    running = newest.replace("WHERE", "WHERE state = 'running' AND")
    return _mark(f"({newest}) UNION ALL ({running})", "id")


def _audit(tenant: str) -> str:
    return f"SELECT CAST(id AS text) FROM audit_entries WHERE true {tenant} ORDER BY id DESC LIMIT 1"  # noqa: S608 - of SQL in this code


def _sets(tenant: str) -> str:
    return _mark(
        f"""
        SELECT sets.id, sets.deleted_at, versions.id AS version_id, items, failed, sealed_at
        FROM (
            SELECT id, deleted_at FROM image_sets WHERE deleted_at IS NULL {tenant}
            ORDER BY id DESC LIMIT {ROWS}
        ) AS sets
        LEFT JOIN image_set_versions AS versions ON versions.set_id = sets.id
        """,  # noqa: S608 - of SQL in this code
        "id, version_id",
    )


def _webhooks(tenant: str) -> str:
    return _mark(
        f"""
        SELECT endpoints.*, newest.id AS message_id, newest.state AS message_state, newest.attempts
        FROM (
            SELECT id, state, verified_at, failing_since FROM webhook_endpoints WHERE true {tenant}
            ORDER BY id DESC LIMIT {ROWS}
        ) AS endpoints
        LEFT JOIN LATERAL (
            SELECT id, state, attempts FROM webhook_deliveries WHERE endpoint_id = endpoints.id
            ORDER BY id DESC LIMIT 5
        ) AS newest ON true
        """,  # noqa: S608 - of SQL in this code
        "id, message_id",
    )


# what a worker has in hand changes with its leases, and its queue's clocks with every claim and submit
WORKERS_MARK: Final = _mark(
    f"""
    SELECT id, state, seen_at > now() - interval '10 s' AS alive, batch_fill, memory_bytes, finished
    FROM (SELECT * FROM workers ORDER BY seen_at DESC LIMIT {WORKERS}) AS latest
    """,  # noqa: S608 - of SQL in this code
    "id",
)
QUEUES_MARK: Final = _mark(
    """
    SELECT queues.model, floor, paused_at, sum(clock) AS clocks,
           (SELECT max(CAST(token AS text)) FROM (SELECT token FROM leases LIMIT 1000) AS held) AS held
    FROM queues LEFT JOIN flows ON flows.model = queues.model GROUP BY queues.model
    """,
    "model",
)


def _overview(tenant: str) -> str:
    workers = _mark(
        "SELECT model, count(*) AS online FROM workers"
        " WHERE state = 'online' AND seen_at > now() - interval '10 s' GROUP BY model",
        "model",
    )
    minutes = "SELECT max(minute) FROM job_minutes"
    return f"SELECT concat(({_jobs(tenant)}), ({workers}), ({minutes}))"


OF_TENANT: Final = "AND tenant = :tenant"
_BY_TENANT: Final = {
    "overview": _overview,
    "jobs": _jobs,
    "sets": _sets,
    "audit": _audit,
    "webhooks": _webhooks,
}
OF_ALL: Final[dict[str, TextClause]] = {
    **{topic: text(statement("")) for topic, statement in _BY_TENANT.items()},
    "workers": text(WORKERS_MARK),
    "queues": text(QUEUES_MARK),
}
"""By topic, for whoever sees all tenants."""
OF_ONE: Final[dict[str, TextClause]] = {
    topic: text(statement(OF_TENANT)) for topic, statement in _BY_TENANT.items()
}
"""The same of what the tenant `:tenant` has; workers and queues are nobody's."""
OF_JOB: Final = text(
    f"""
    SELECT concat_ws(' ', ({_mark(f"SELECT {_OF_JOB} FROM jobs WHERE id = :job_id", "id")}), (
        {
        _mark(
            "SELECT unit, attempt, lease_token FROM work WHERE job_id = :job_id ORDER BY unit LIMIT 100",
            "unit",
        )
    }
    ))
    """  # noqa: S608 - of SQL in this code
)
"""Of one job, `:job_id`: how far it is, and who has its first units."""
LATELY: Final = text(
    """
    SELECT greatest(
        (SELECT max(ended_at) FROM jobs),
        (SELECT uuid_extract_timestamp(id) FROM jobs ORDER BY id DESC LIMIT 1)
    ) > now() - interval '5 s'
    """
)
"""Whether a page that was read just now may be of before the last thing that happened."""
