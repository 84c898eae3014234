"""The pages of workers and queues: what they show, to whom, and what they let whom do."""

import re
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from api.app import create_app
from api.settings import ApiSettings
from jobs import fleet, leases, queue_overview, queues, workers
from jobs.fleet import FleetFilter
from models.audit import AuditEntry
from models.types import Role, WorkerState
from models.worker import Worker
from tests.dashboard import add_account, sign_in
from tests.faults import change
from tests.integration.test_plans import WAITING, fill, indexes, nodes, rows_read
from tests.ledger import MODEL, TENANT, claim, scalar, submit_texts

Sessions = sessionmaker[Session]
QUEUE = f"/admin/queues/{MODEL}"
SOME_WORKERS = """
    INSERT INTO workers (id, hostname, model, state, started_at, seen_at)
    SELECT uuidv4(), 'host-' || n, :model, 'online', now() - n * interval '1 second',
           CASE WHEN n % :here = 0 THEN now() ELSE now() - interval '1 hour' END
    FROM generate_series(1, :count) AS n"""


@pytest.fixture
def app(settings: ApiSettings, sessions: Sessions) -> Iterator[Any]:
    with TestClient(create_app(settings), base_url="https://testserver") as client:
        yield client.app


def visitor(
    app: Any, sessions: Sessions, role: Role = Role.OPERATOR, tenant: str | None = None
) -> TestClient:
    email = f"{role}-{tenant or 'all'}@example.org".lower()
    add_account(sessions, email, role, tenant)
    return sign_in(TestClient(app, base_url="https://testserver"), email)


def online(sessions: Sessions, hostname: str = "gpu-1", model: str = MODEL) -> uuid.UUID:
    worker_id = uuid.uuid4()
    with sessions.begin() as session:
        workers.register(session, worker_id, model=model, device="cuda:0", dtype="bfloat16")
        workers.report_online(
            session, worker_id, device="cuda:0", dtype="bfloat16", revision="local:0123456789abcdef"
        )
        workers.report_alive(session, worker_id, workers.Vitals(0.5, 0.75, 3 * 2**30, 8 * 2**30))
    change(sessions, "UPDATE workers SET hostname = :name WHERE id = :id", name=hostname, id=worker_id)
    return worker_id


def audited(sessions: Sessions) -> list[tuple[str, str, str, str | None, int | None]]:
    with sessions() as session:
        found = session.scalars(select(AuditEntry).where(AuditEntry.verb.not_like("account.%")))
        return [(entry.actor, entry.verb, entry.target, entry.reason, entry.matched) for entry in found]


def test_a_worker_is_shown_with_what_it_loaded_how_it_does_and_what_it_is_at(
    app: Any, sessions: Sessions
) -> None:
    browser = visitor(app, sessions)
    assert "No worker is here" in browser.get("/admin/workers").text
    worker_id = online(sessions, "<b>gpu</b>")
    own = submit_texts(sessions, 1)
    submit_texts(sessions, 1, tenant="others")
    for _ in range(2):
        assert claim(sessions, worker_id=worker_id) is not None
    change(sessions, "UPDATE workers SET finished = 1234")
    shown = browser.get("/admin/workers").text
    for fact in (
        MODEL,
        "@local:01234567<",
        "cuda:0",
        "bfloat16",
        "3.0 GiB of 8.0 GiB",
        "75 %",
        "1,234",
        f"/admin/jobs/job_{own.hex}",
    ):
        assert fact in shown, fact
    assert "&lt;b&gt;gpu&lt;/b&gt;" in shown
    assert "<b>gpu" not in shown
    part = browser.get("/admin/workers/rows").text
    assert part.lstrip().startswith('<div id="workers"')
    of_tenant = visitor(app, sessions, tenant=TENANT).get("/admin/workers").text
    assert f"/admin/jobs/job_{own.hex}" in of_tenant
    assert of_tenant.count("/admin/jobs/job_") == 1
    assert "work of another tenant" in of_tenant
    assert "Drain" not in of_tenant


def test_workers_that_are_silent_or_failed_say_so(app: Any, sessions: Sessions) -> None:
    browser = visitor(app, sessions)
    silent, failed = online(sessions, "silent"), online(sessions, "failed")
    change(sessions, "UPDATE workers SET seen_at = now() - interval '1 minute' WHERE id = :id", id=silent)
    with sessions.begin() as session:
        workers.report_failed(session, failed, {"code": "load-failed", "message": "no such folder"})
    shown = browser.get("/admin/workers").text
    assert "no such folder" in shown
    here, gone = shown.split("Offline, of the last day")
    assert f"wrk_{failed.hex}" in here
    assert f"wrk_{silent.hex}" not in here
    assert f"wrk_{silent.hex}" in gone
    only = browser.get("/admin/workers", params={"state": "offline", "model": MODEL}).text
    assert f"wrk_{silent.hex}" in only
    assert f"wrk_{failed.hex}" not in only
    assert "No such worker" in browser.get("/admin/workers?state=draining").text
    for nonsense in ("state=asleep", "after=nonsense", f"after={10**30}-{silent.hex}"):
        assert browser.get(f"/admin/workers?{nonsense}").status_code == 422, nonsense


def test_thousands_of_workers_come_a_hundred_at_a_time_and_each_once(app: Any, sessions: Sessions) -> None:
    browser = visitor(app, sessions)
    change(sessions, SOME_WORKERS, model=MODEL, count=250, here=1)
    where: str | None = "/admin/workers"
    sizes, seen = [], set()
    while where:
        shown = browser.get(where).text
        found = re.findall(r'class="card worker" id="(wrk_\w+)"', shown)
        sizes.append(len(found))
        seen.update(found)
        link = re.search(r'href="([^"]+)" rel="next"', shown)
        where = link.group(1).replace("&amp;", "&") if link else None
    assert sizes == [100, 100, 50]
    assert len(seen) == 250


def test_a_worker_is_drained_by_those_who_run_the_service_and_the_audit_says_who(
    app: Any, sessions: Sessions
) -> None:
    worker_id = online(sessions)
    path = f"/admin/workers/wrk_{worker_id.hex}/drain"
    for others in (visitor(app, sessions, Role.VIEWER), visitor(app, sessions, Role.ADMIN, TENANT)):
        assert path not in others.get("/admin/workers").text
        assert others.post(path).status_code == 403
    assert scalar(sessions, "SELECT state FROM workers") == "online"
    browser = visitor(app, sessions)
    assert path in browser.get("/admin/workers").text
    data = {"reason": "new driver", "back": f"model={MODEL}&state=online&told=x&evil=1"}
    answer = browser.post(path, data=data)
    assert answer.status_code == 303
    where = answer.headers["Location"]
    assert where == f"/admin/workers?model={MODEL.replace('/', '%2F')}&state=online&told=worker-draining"
    assert scalar(sessions, "SELECT state FROM workers") == "draining"
    assert audited(sessions) == [
        ("operator-all@example.org", "worker.drained", f"wrk_{worker_id.hex}", "new driver", None)
    ]
    assert browser.post(f"/admin/workers/wrk_{'0' * 32}/drain").status_code == 404
    change(sessions, "UPDATE workers SET state = 'offline'")
    assert browser.post(path).status_code == 409
    assert len(audited(sessions)) == 1


def test_queues_are_shown_with_what_waits_whose_it_is_and_who_paused_them(
    app: Any, sessions: Sessions
) -> None:
    browser = visitor(app, sessions)
    assert "No queue yet" in browser.get("/admin/queues").text
    submit_texts(sessions, 3)
    submit_texts(sessions, 2, tenant="<i>others</i>")
    assert claim(sessions) is not None
    assert "nobody serves it now" in browser.get("/admin/queues").text
    online(sessions)
    online(sessions, model="gone/model")
    answer = browser.post(f"{QUEUE}/pause", data={"reason": "new weights"})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/admin/queues?told=queue-paused")
    assert claim(sessions) is None
    shown = browser.get("/admin/queues/rows").text
    assert shown.lstrip().startswith('<div id="queues"')
    for fact in ("&lt;i&gt;others&lt;/i&gt;", "by operator-all@example.org", "new weights", "gone/model"):
        assert fact in shown, fact
    assert "nobody serves it now" not in shown
    assert f"{QUEUE}/resume" in shown
    assert "/admin/queues/gone/model/" not in shown, "what the catalog does not know cannot be paused"
    of_tenant = visitor(app, sessions, Role.ADMIN, TENANT).get("/admin/queues").text
    assert MODEL in of_tenant
    assert ">4<" in of_tenant, "of all tenants together, as keys see it"
    for hidden in ("others", "operator-all", "new weights", "Resume"):
        assert hidden not in of_tenant, hidden
    assert browser.post(f"{QUEUE}/resume").status_code == 303
    with sessions.begin() as session:
        # by a key: the audit of the pages knows nothing of it
        queues.pause(session, MODEL)
    assert "by operator-all" not in browser.get("/admin/queues").text


def test_a_queue_is_drained_with_all_its_workers(app: Any, sessions: Sessions) -> None:
    first, second, other = online(sessions), online(sessions), online(sessions, model="gone/model")
    submit_texts(sessions, 2)
    held = claim(sessions, worker_id=first)
    assert held is not None
    for others in (visitor(app, sessions, Role.VIEWER), visitor(app, sessions, Role.OPERATOR, TENANT)):
        assert QUEUE not in others.get("/admin/queues").text
        for verb in ("pause", "resume", "drain"):
            assert others.post(f"{QUEUE}/{verb}").status_code == 403, verb
    browser = visitor(app, sessions)
    assert browser.post("/admin/queues/nobody/knows/drain").status_code == 404
    assert audited(sessions) == []
    assert browser.post(f"{QUEUE}/drain").headers["Location"] == "/admin/queues?told=queue-draining"
    with sessions.begin() as session:
        states = {each: workers.report_alive(session, each) for each in (first, second, other)}
        assert leases.renew(session, held.token) is leases.Renewal.RENEWED, "it finishes what it holds"
    assert states == {first: "draining", second: "draining", other: "online"}
    assert claim(sessions, worker_id=other) is None
    assert "and 2 draining" in browser.get("/admin/queues").text
    assert browser.post(f"{QUEUE}/resume").status_code == 303
    assert [entry[1:] for entry in audited(sessions)] == [
        ("queue.drained", MODEL, None, 2),
        ("queue.resumed", MODEL, None, None),
    ]


def plan(sessions: Sessions, statement: Any, **values: Any) -> list[dict[str, Any]]:
    bound = statement.params(**values) if values else statement
    with sessions() as session:
        compiled = bound.compile(session.get_bind(), compile_kwargs={"render_postcompile": True})
        explained = f"EXPLAIN (ANALYZE, FORMAT JSON) {compiled}"
        found = session.connection().exec_driver_sql(explained, compiled.params).scalar_one()
    return list(nodes(found[0]["Plan"]))


def test_the_lists_read_by_index_however_much_there_is(sessions: Sessions) -> None:
    fill(sessions)
    change(sessions, SOME_WORKERS, model=MODEL, count=20_000, here=2)
    change(
        sessions,
        """INSERT INTO leases (token, worker_id, until, hard_until, ttl)
           SELECT uuidv7(), id, now(), now(), interval '1 s' FROM workers LIMIT 5000""",
    )
    change(
        sessions,
        """INSERT INTO audit_entries (id, at, actor, verb, target)
           SELECT uuidv7(n * interval '-1 s'), now() - n * interval '1 s', 'ada', 'queue.paused', :model
           FROM generate_series(1, 20000) AS n""",
        model=MODEL,
    )
    for table in ("work", "workers", "leases", "audit_entries"):
        change(sessions, f"ANALYZE {table}")
    pages = [FleetFilter(), FleetFilter(MODEL), FleetFilter(state=WorkerState.OFFLINE)]
    for wanted in pages:
        found = plan(sessions, fleet.workers_page(wanted, after=None, limit=100))
        assert indexes(found) == {"ix_workers_started_at_id"}, wanted
        assert rows_read(found, "workers") < 500, wanted
    overview = plan(sessions, queue_overview.OVERVIEW)
    assert "ix_work_claimable" in indexes(overview)
    assert rows_read(overview, "work") <= 3 * (queue_overview.COUNTED_UNITS + 1) < WAITING
    with sessions() as session:
        some = session.scalars(select(Worker.id).limit(100)).all()
        at = scalar(sessions, "SELECT now()")
    held = plan(sessions, fleet.HELD, **fleet.held_by(some))
    assert rows_read(held, "work") <= 100
    who = plan(sessions, queue_overview.pauses({MODEL: at - timedelta(minutes=1), "other": at}))
    assert indexes(who) & {"ix_audit_entries_tenant_id", "pk_audit_entries"}
    assert rows_read(who, "audit_entries") < 500
