"""A running service with something in it, and Debian's Chromium, signed in and watched."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright
from sqlalchemy import text

from jobs.keys import create_key
from models.types import Role, Scope
from tests.acceptance.conftest import RunningService, state_folder
from tests.conftest import SAMPLES
from tests.dashboard import PASSWORD, add_account
from tests.ledger import MODEL, TENANT

__all__ = ["state_folder"]

ADMIN, OPERATOR, VIEWER, STRANGER = (f"{name}@example.org" for name in ("ada", "otto", "vera", "sam"))
EVIL: str = "<img src=x onerror=alert(1)>"
"""Stands wherever a user's words do: it is to be read, never to run."""
LABELS = ["cyan ring", "red heart", "orange square"]
HISTORY: Final = (
    """INSERT INTO job_minutes (minute, model, tenant, submitted, succeeded, partial, failed, waited, ran)
       SELECT date_trunc('minute', now()) - n * interval '1 min', :model, :tenant, 40,
              30 + (n * 7) % 23, n % 3,
              CASE WHEN n % 11 = 0 THEN 4 ELSE 0 END, array_fill(0, ARRAY[17 + n % 5]) || ARRAY[9, 20, 9, 2],
              array_fill(0, ARRAY[24 + n % 3]) || ARRAY[5, 24, 8, 3]
       FROM generate_series(2, 55) AS n ON CONFLICT DO NOTHING""",
    """INSERT INTO item_minutes (minute, model, tenant, succeeded, failed)
       SELECT minute, model, tenant, succeeded * 12, failed * 3 FROM job_minutes ON CONFLICT DO NOTHING""",
)
"""So that charts have something to draw."""


@dataclass(slots=True)
class Content:
    """What the service has to show, by ids on the wire; the `evil` ones are full of words that would run."""

    lens: str
    failed: str
    set_id: str
    endpoint: str
    evil_lens: str
    evil_failed: str
    evil_set: str
    evil_endpoint: str


@dataclass(slots=True)
class Watched:
    """A page, and what was seen of its browser meanwhile."""

    page: Page
    address: str
    elsewhere: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str) -> Page:
        self.page.goto(f"{self.address}{path}")
        return self.page


@pytest.fixture(scope="session")
def service(state_folder: Path) -> Iterator[RunningService]:
    """A service whose one worker is online."""
    running = RunningService(
        state_folder / "service",
        LENSQUEUE_REQUESTS_PER_MINUTE="0",
        LENSQUEUE_EGRESS_ALLOWED='["127.0.0.1:*"]',
    )
    try:
        for email, role, tenant in (
            (ADMIN, Role.ADMIN, None),
            (OPERATOR, Role.OPERATOR, TENANT),
            (VIEWER, Role.VIEWER, TENANT),
            (STRANGER, Role.ADMIN, "another"),
        ):
            add_account(running.sessions, email, role, tenant)
        with running.sessions.begin() as session:
            key = create_key(session, name="browser", tenant=TENANT, scopes=list(Scope)).key
        running.client.headers["Authorization"] = f"Bearer {key}"
        yield running
    finally:
        running.close()


@pytest.fixture(scope="session")
def content(service: RunningService) -> Content:
    """Lenses, jobs with a broken picture, image sets, endpoints, and an hour of history."""
    nice = _fill(service, "", [*LABELS, "green star", "black arrow"], {"project": "shapes"}, "Six scenes")
    evil = _fill(service, f"{EVIL}-", [*LABELS, EVIL], {"note": EVIL}, EVIL)
    with service.sessions.begin() as session:
        for statement in HISTORY:
            session.execute(text(statement), {"model": MODEL, "tenant": TENANT})
    return Content(*nice, *evil)


def _fill(
    service: RunningService, prefix: str, labels: list[str], tags: dict[str, str], name: str
) -> tuple[str, str, str, str]:
    paths = sorted(SAMPLES.glob("*.jpg"))[:6]
    scenes = [(f"{prefix}{path.name}", path.read_bytes()) for path in paths]
    options = {"outputs": ["pooled", "patch"], "patch_layers": "all"}
    lens = service.submit({"type": "logit_lens", "labels": labels, "tags": tags, "options": options}, scenes)
    partial = service.submit(
        {"type": "embedding", "tags": tags}, [*scenes[:2], (f"{prefix}broken.jpg", b"no picture")]
    )
    for job in (lens, partial):
        service.finish(job)
    client = service.client
    made = client.post("/v1/image-sets", json={"name": name}).raise_for_status().json()
    items = [{"custom_id": scene, "true_label": labels[0]} for scene, _ in scenes]
    files = [("images", (scene, data, "image/jpeg")) for scene, data in scenes]
    path = f"/v1/image-sets/{made['id']}"
    client.post(f"{path}/items", data={"items": json.dumps(items)}, files=files).raise_for_status()
    client.post(f"{path}/seal").raise_for_status()
    endpoint = client.post(
        "/v1/webhook-endpoints",
        json={"url": f"http://127.0.0.1:{service.port}/nothing", "description": name},
    ).raise_for_status()
    return lens["id"], partial["id"], made["id"], endpoint.json()["id"]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Debian's own: nothing is downloaded."""
    path = os.environ.get("LENSQUEUE_CHROMIUM") or shutil.which("chromium")
    assert path, "no chromium: apt-get install chromium, or set LENSQUEUE_CHROMIUM to where one is"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


Signed = Callable[..., Watched]


@pytest.fixture(scope="session")
def kept() -> dict[str, Any]:
    """The cookies of those who have signed in: so many may do so in a minute, not one a test."""
    return {}


@pytest.fixture
def signed_in(service: RunningService, chromium: Browser, kept: dict[str, Any]) -> Iterator[Signed]:
    """Opens a browser that somebody is signed in with; in the end it has asked nobody but the service."""
    address = f"http://127.0.0.1:{service.port}"
    opened: list[Watched] = []

    def make(email: str = ADMIN, **options: Any) -> Watched:
        how = {"viewport": {"width": 1400, "height": 900}, **options}
        context = chromium.new_context(storage_state=kept.get(email), **how)
        context.set_default_timeout(15_000)
        watched = Watched(context.new_page(), address)

        def see(request: Request) -> None:
            if not request.url.startswith(f"{address}/"):
                watched.elsewhere.append(request.url)

        def hear(message: ConsoleMessage) -> None:
            if message.type == "error" and "status of 4" not in message.text:
                watched.complaints.append(message.text)

        watched.page.on("request", see)
        watched.page.on("console", hear)
        watched.page.on("pageerror", lambda error: watched.complaints.append(str(error)))
        watched.page.on("dialog", lambda dialog: watched.complaints.append(f"a dialog: {dialog.message}"))
        opened.append(watched)
        if email not in kept:
            watched.open("/admin/sign-in")
            watched.page.get_by_label("Email address").fill(email)
            watched.page.get_by_label("Password").fill(PASSWORD)
            watched.page.get_by_role("button", name="Sign in").click()
            watched.page.wait_for_url(f"{address}/admin/")
            kept[email] = context.storage_state()
        return watched

    yield make
    for watched in opened:
        assert watched.elsewhere == []
        assert watched.complaints == []
        watched.page.context.close()
