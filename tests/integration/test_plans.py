"""How the hot statements read their tables: by their indexes and few rows, however much waits."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from sqlalchemy import Interval, Text, Uuid, bindparam, event, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session, sessionmaker

from engine.catalog import Catalog
from jobs import deliveries, outlook, queries, transitions
from jobs.admission import Quota, admit
from jobs.storing import store_at_once
from jobs.submission import ImageItem, Submission
from models.types import JobType
from tests.deliveries import add_endpoint
from tests.faults import change
from tests.ledger import MODEL, TENANT, WORKER, scalar, submit_texts

Sessions = sessionmaker[Session]
WAITING = 100_000
ME = {"id": WORKER, "model": MODEL}


def fill(sessions: Sessions) -> None:
    """Work of three kinds, of which one is rare, beside that of another model."""
    job_id = submit_texts(sessions)
    change(sessions, "DELETE FROM work")
    change(
        sessions,
        """INSERT INTO work (job_id, unit, model, items, vtime, batch_key, item_bytes)
           SELECT :job_id, n, CASE WHEN n % 10 = 0 THEN 'other' ELSE :model END, 1, n,
                  CASE WHEN n = 1 OR n % 997 = 0 THEN 'rare' WHEN n % 2 = 0 THEN 'even' ELSE 'odd' END, 1000
           FROM generate_series(1, :waiting) AS n""",
        job_id=job_id,
        model=MODEL,
        waiting=WAITING,
    )
    change(
        sessions,
        """INSERT INTO job_inputs (job_id, unit, items)
           SELECT job_id, unit, '[]' FROM work ON CONFLICT DO NOTHING""",
    )


def plan_of(session: Session, statement: str, values: dict[str, Any]) -> dict[str, Any]:
    explained = text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}")
    return dict(session.execute(explained, values).scalar_one()[0]["Plan"])


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


def claim_plan(sessions: Sessions, items: int = 32) -> list[dict[str, Any]]:
    """How a claim is done; it is taken back."""
    values = {
        "model": MODEL,
        "worker_id": WORKER,
        "ttl": timedelta(seconds=30),
        "hard_limit": timedelta(seconds=60),
        "lonely_losses": transitions.LONELY_LOSSES,
        "max_strikes": transitions.MAX_STRIKES,
        "max_items": items,
        "max_bytes": 2**62,
        "beside": False,
        "single": False,
    }
    with sessions() as session:
        session.execute(transitions.READ_BY_INDEX)
        found = list(nodes(plan_of(session, transitions.CLAIM.text, values)))
        session.rollback()
    return found


def rows_read(plan: list[dict[str, Any]], table: str) -> float:
    """How many rows of a table were looked at, those that were thrown away as well."""
    return float(
        sum(
            (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
            for node in plan
            if node.get("Relation Name") == table and "Scan" in node["Node Type"]
        )
    )


def indexes(plan: list[dict[str, Any]]) -> set[str]:
    return {node["Index Name"] for node in plan if "Index Name" in node}


def test_a_claim_reads_no_more_than_it_takes_however_much_waits(sessions: Sessions) -> None:
    fill(sessions)
    # with the planner's guesses of an empty table, then with what it knows
    for prepare in ("SELECT 1", "ANALYZE work"):
        change(sessions, prepare)
        plan = claim_plan(sessions)
        assert {"ix_work_claimable", "ix_work_batch"} <= indexes(plan), prepare
        assert rows_read(plan, "work") <= 5 * 32, prepare


def test_a_claim_finds_the_mates_of_a_rare_kind_without_reading_the_others(sessions: Sessions) -> None:
    fill(sessions)
    change(sessions, "ANALYZE work")
    change(sessions, "UPDATE work SET vtime = -1 WHERE batch_key = 'rare' AND unit = 1")
    assert rows_read(claim_plan(sessions), "work") <= 5 * 32


def test_a_claim_stays_cheap_after_many_claims(sessions: Sessions) -> None:
    fill(sessions)
    change(sessions, "ANALYZE work")
    before = pages(claim_plan(sessions))
    change(
        sessions,
        "INSERT INTO leases (worker_id, until, hard_until, ttl) VALUES (:id, now(), now(), '0')",
        id=WORKER,
    )
    for start in range(0, 50_000, 5_000):
        part = {"start": start, "stop": start + 5_000}
        held = (
            "UPDATE work SET lease_token = (SELECT token FROM leases) WHERE vtime >= :start AND vtime < :stop"
        )
        change(sessions, held, **part)
        change(sessions, "DELETE FROM work WHERE vtime >= :start AND vtime < :stop", **part)
    # the first one that comes by marks what is dead in the index, and the next ones pass over it
    claim_plan(sessions)
    after = claim_plan(sessions)
    assert {"ix_work_claimable", "ix_work_batch"} <= indexes(after)
    assert rows_read(after, "work") <= 5 * 32
    # until the next vacuum what is dead is passed over by the page, in both indexes, and not row by row
    assert pages(after) <= before + 50_000 / 25


def pages(plan: list[dict[str, Any]]) -> int:
    return int(plan[0]["Shared Hit Blocks"] + plan[0]["Shared Read Blocks"])


def test_telling_which_models_have_work_reads_no_more_than_it_tells(sessions: Sessions) -> None:
    fill(sessions)
    change(sessions, "INSERT INTO queues (model) VALUES ('other'), ('idle')")
    change(sessions, "ANALYZE")
    statement = queries.waiting_models(limit=16).compile(
        dialect=postgresql.dialect(),  # type: ignore[no-untyped-call]  # SQLAlchemy's dialects are untyped
        compile_kwargs={"literal_binds": True},
    )
    with sessions() as session:
        plan = list(nodes(plan_of(session, str(statement), {})))
    assert plan[0]["Actual Rows"] == 2
    assert rows_read(plan, "work") <= 2 * (16 + 1) + 2


def test_a_look_reads_one_row_however_much_waits(sessions: Sessions) -> None:
    fill(sessions)
    values = {
        "model": MODEL,
        "lonely_losses": transitions.LONELY_LOSSES,
        "max_strikes": transitions.MAX_STRIKES,
    }
    with sessions() as session:
        session.execute(transitions.READ_BY_INDEX)
        plan = list(nodes(plan_of(session, transitions.LOOK.text, values)))
        session.rollback()
    assert rows_read(plan, "work") == 1


def test_what_a_poll_tells_of_the_queue_is_read_by_index_however_much_waits(sessions: Sessions) -> None:
    fill(sessions)
    change(
        sessions, "INSERT INTO workers (id, hostname, model, state) VALUES (:id, '', :model, 'online')", **ME
    )
    values = outlook.PARAMETERS | {"job_ids": [scalar(sessions, "SELECT id FROM jobs")]}
    # with the planner's guesses of an empty table, then with what it knows
    for prepare in ("SELECT 1", "ANALYZE"):
        change(sessions, prepare)
        with sessions() as session:
            plan = list(nodes(plan_of(session, str(outlook.OUTLOOKS), values)))
        assert rows_read(plan, "work") <= 2 + outlook.POSITIONS, prepare
        # another time far behind the others, of which no more is counted than is told
        change(sessions, "UPDATE work SET vtime = 10 * vtime WHERE unit < 500")


def test_a_claim_of_messages_reads_few_however_much_waits_for_a_dead_endpoint(sessions: Sessions) -> None:
    dead, alive = add_endpoint(sessions), add_endpoint(sessions, "https://alive.example.org/")
    for endpoint_id, messages in ((dead, WAITING), (alive, 10)):
        change(
            sessions,
            """INSERT INTO webhook_deliveries (endpoint_id, event, run_at)
               SELECT :endpoint, 'job.ended', now() - n * interval '1 second'
               FROM generate_series(1, :messages) AS n""",
            endpoint=endpoint_id,
            messages=messages,
        )
    values = {
        "endpoints": [dead, dead],
        "destinations": ["hooks.example.org:443"] * 2,
        "of_endpoint": 2,
        "of_destination": 4,
        "limit": 30,
        "lease": timedelta(seconds=60),
    }
    explained = text(f"EXPLAIN (ANALYZE, FORMAT JSON) {deliveries.CLAIM}").bindparams(
        bindparam("endpoints", type_=ARRAY(Uuid())),
        bindparam("destinations", type_=ARRAY(Text())),
        bindparam("lease", type_=Interval()),
    )
    with sessions() as session:
        plan = dict(session.execute(explained, values).scalar_one()[0]["Plan"])
    assert plan["Actual Rows"] == 2
    assert rows_read(list(nodes(plan)), "webhook_deliveries") < 30


def test_a_submit_that_names_many_pictures_reads_no_others_and_writes_no_temporary_files(
    sessions: Sessions,
) -> None:
    """Beside rows that are locked, what is joined is carried along: it must not be the whole document."""
    change(
        sessions,
        """INSERT INTO images (tenant, sha256, image_bytes)
           SELECT CASE WHEN n % 2 = 0 THEN :tenant ELSE 'another' END,
                  encode(sha256(CAST(CAST(n AS text) AS bytea)), 'hex'), 1
           FROM generate_series(1, :waiting) AS n""",
        tenant=TENANT,
        waiting=WAITING,
    )
    change(sessions, "ANALYZE images")
    with sessions() as session:
        some = text("SELECT id FROM images WHERE tenant = :tenant LIMIT 300")
        named = session.scalars(some, {"tenant": TENANT}).all()
    options = {"labels": [f"label {number} {'x' * 100}" for number in range(10_000)]}
    wanted = Submission(JobType.EMBEDDING, MODEL, [ImageItem(image_id) for image_id in named], options)
    with sessions.begin() as session:
        admission = admit(session, TENANT, wanted, Catalog(), Quota())
    seen: list[dict[str, Any]] = []

    def explain(_: Any, __: Any, statement: str, values: dict[str, Any], *___: Any) -> None:
        if "jsonb_to_recordset" in statement and not statement.startswith("EXPLAIN"):
            with sessions() as session:
                explained = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"
                found = session.connection().exec_driver_sql(explained, values).scalar_one()
                seen.append(found[0]["Plan"])

    event.listen(sessions.kw["bind"], "before_cursor_execute", explain)
    with sessions.begin() as session:
        assert store_at_once(session, TENANT, wanted, admission) is not None
    [plan] = seen
    assert plan["Temp Written Blocks"] == 0
    of_images = (node for node in nodes(plan) if node.get("Relation Name") == "images")
    scans = [node for node in of_images if "Scan" in node["Node Type"]]
    assert len(scans) == 2, "those sent, and those named"
    assert all(node["Node Type"].startswith("Index") for node in scans)
    assert sum(node["Actual Rows"] * node["Actual Loops"] for node in scans) == len(named)
