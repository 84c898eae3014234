"""The overview: open jobs, history as charts, and what a new service is told; to each tenant its own."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session, sessionmaker

from api.app import create_app
from api.settings import ApiSettings
from jobs import charts, maintenance
from jobs.charts import RANGES
from jobs.history import count_minutes, sum_hours
from models.types import Role
from tests.dashboard import add_account, sign_in
from tests.faults import change, do_all
from tests.integration.test_history import KEPT, add_jobs
from tests.integration.test_plans import indexes, nodes, plan_of, rows_read
from tests.ledger import MODEL, TENANT, scalar, submit_texts

Sessions = sessionmaker[Session]
ALL, ONE, OTHER = "all@example.org", "one@example.org", "other@example.org"


@pytest.fixture
def browser(
    settings: ApiSettings, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TestClient]:
    # what is counted here is counted by the test
    monkeypatch.setattr(maintenance, "count_minutes", lambda *_, **__: 0)
    add_account(sessions, ALL, Role.VIEWER)
    add_account(sessions, ONE, Role.VIEWER, TENANT)
    add_account(sessions, OTHER, Role.ADMIN, "another")
    with TestClient(create_app(settings), base_url="https://testserver") as client:
        yield client


def tiles(page: str) -> dict[str, str]:
    found = {}
    for part in page.split('<div class="tile" id="tile-')[1:]:
        name, _, rest = part.partition('"')
        found[name] = rest.partition("<dd")[2].partition(">")[2].partition("<")[0]
    return found


def test_the_overview_shows_a_visitor_what_its_tenant_has_open(
    browser: TestClient, sessions: Sessions
) -> None:
    submit_texts(sessions, 3)
    submit_texts(sessions, 2, tenant="another")
    submit_texts(sessions, tenant="another", model="google/siglip-base-patch16-224")
    change(sessions, "UPDATE jobs SET state = 'running' WHERE total = 2")
    seen = {}
    for email in (ALL, ONE, OTHER):
        seen[email] = sign_in(browser, email).get("/admin/").text
        browser.cookies.clear()
    assert {email: (tiles(page)["queued"], tiles(page)["running"]) for email, page in seen.items()} == {
        ALL: ("2", "1"),
        ONE: ("1", "0"),
        OTHER: ("1", "1"),
    }
    assert "google/siglip-base-patch16-224" in seen[OTHER]
    assert "google/siglip-base-patch16-224" not in seen[ONE]
    part = sign_in(browser, ONE).get("/admin/overview/now").text
    assert tiles(part).items() >= {"queued": "1", "running": "0", "workers-online": "0"}.items()
    assert "<html" not in part


def test_a_new_service_says_what_to_do_next(browser: TestClient, sessions: Sessions) -> None:
    submit_texts(sessions)
    # to a tenant that has nothing, it is new
    page = sign_in(browser, OTHER).get("/admin/").text
    assert "lensqueue keys create --name first --tenant another" in page
    assert "lensqueue submit" in page
    assert "/admin/overview/now?new=1" in page
    assert "HX-Refresh" not in browser.get("/admin/overview/now?new=1").headers
    browser.cookies.clear()
    assert "lensqueue submit" not in sign_in(browser, ONE).get("/admin/").text
    assert browser.get("/admin/overview/now?new=1").headers["HX-Refresh"] == "true"


@pytest.mark.parametrize(("name", "points"), [("1h", 60), ("24h", 288), ("7d", 168), ("30d", 360)])
def test_a_chart_has_the_history_of_its_range_by_the_minute(
    browser: TestClient, sessions: Sessions, name: str, points: int
) -> None:
    now = scalar(sessions, "SELECT now()")
    # in a point that is over
    ended_at = now - max(timedelta(minutes=30), 1.5 * RANGES[name].step)
    add_jobs(sessions, 6, ended_at, waited_s=1.0, ran_s=10.0)
    add_jobs(sessions, 3, ended_at, tenant="another", state="failed")
    add_jobs(sessions, 9, now - timedelta(days=31))
    add_jobs(sessions, 1, now, tenant="a third")
    do_all(sessions, lambda session: count_minutes(session, KEPT + timedelta(days=10)))
    change(
        sessions,
        """INSERT INTO item_minutes (minute, model, tenant, succeeded)
           SELECT minute, model, tenant, 100 FROM job_minutes WHERE succeeded > 0""",
    )
    # ranges of many days are read by the hour, and what came since by the minute
    summed = do_all(sessions, sum_hours)
    if RANGES[name].step >= timedelta(hours=1):
        assert summed >= 2
    sign_in(browser, ONE)
    series: dict[str, Any] = browser.get(f"/admin/overview/series?range={name}").json()
    assert len(series["at"]) == points
    minutes = series["step_s"] / 60
    assert sum(series["ended"]["succeeded"]) * minutes == pytest.approx(6, abs=0.2)
    assert sum(series["items"]["succeeded"]) * minutes == pytest.approx(100, abs=1)
    # another tenant's are not told
    assert sum(series["ended"]["failed"]) == 0
    [ran] = [value for value in series["models"][MODEL]["ran"]["p95"] if value is not None]
    assert ran == pytest.approx(10, rel=0.26)
    browser.cookies.clear()
    everything = sign_in(browser, ALL).get(f"/admin/overview/series?range={name}").json()
    assert sum(everything["ended"]["failed"]) * minutes == pytest.approx(3, abs=0.2)


def test_nobody_sees_numbers_without_signing_in(browser: TestClient) -> None:
    for path in ("/admin/", "/admin/overview/now", "/admin/overview/series", "/admin/live?topic=jobs"):
        answer = browser.get(path, follow_redirects=False)
        assert (answer.status_code, answer.headers["Location"][:14]) == (303, "/admin/sign-in"), path


def test_open_jobs_are_counted_so_far_and_read_by_index(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(charts, "MOST_OPEN", 1_000)
    add_jobs(sessions, 50_000, scalar(sessions, "SELECT now()"), every_s=-1)
    change(
        sessions,
        """INSERT INTO jobs (tenant, type, model, options, total)
           SELECT CASE WHEN n % 10 = 0 THEN 'another' ELSE :tenant END, 'embedding', :model, '{}', 1
           FROM generate_series(1, 20000) AS n""",
        tenant=TENANT,
        model=MODEL,
    )
    change(sessions, "ANALYZE jobs")
    for tenant in (None, "another"):
        compiled = charts.open_jobs(tenant).compile(
            dialect=postgresql.dialect(),  # type: ignore[no-untyped-call]  # SQLAlchemy's dialects are untyped
            compile_kwargs={"literal_binds": True},
        )
        with sessions() as session:
            plan = list(nodes(plan_of(session, str(compiled), {})))
            [row] = session.execute(charts.open_jobs(tenant)).all()
        assert row[2] == 1_001
        wanted = "ix_jobs_state_id" if tenant is None else "ix_jobs_tenant_state_id"
        # for states of which there are none any index of theirs is as good, and the planner takes turns
        assert wanted in indexes(plan) <= {wanted, "ix_jobs_state_id", "ix_jobs_cancelling"}
        assert rows_read(plan, "jobs") <= 1_001
