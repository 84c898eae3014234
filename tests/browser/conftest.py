"""A running service with something in it, and Debian's Chromium, signed in and watched."""

import io
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

from jobs.keys import create_key
from models.types import Role, Scope
from tests.acceptance.conftest import RunningService, state_folder
from tests.conftest import SAMPLES
from tests.dashboard import PASSWORD, add_account
from tests.ledger import TENANT

__all__ = ["state_folder"]

ADMIN, OPERATOR, VIEWER, STRANGER = (f"{name}@example.org" for name in ("ada", "otto", "vera", "sam"))
EVIL: str = "<img src=x onerror=alert(1)>"
"""Stands wherever a user's words do: it is to be read, never to run."""
LABELS = ["cyan ring", "red heart", "orange square", EVIL]


@dataclass(slots=True)
class Content:
    """What the service has to show, by the ids it has on the wire."""

    lens: str
    failed: str
    set_id: str
    endpoint: str


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
    """A lens, a job with a broken picture, an image set, an endpoint: all with words that would run."""
    scenes = [(f"{EVIL}-{path.name}", path.read_bytes()) for path in sorted(SAMPLES.glob("*.jpg"))[:6]]
    lens = service.submit(
        {
            "type": "logit_lens",
            "labels": LABELS,
            "tags": {"note": EVIL},
            "options": {"outputs": ["pooled", "patch"], "patch_layers": "all"},
        },
        scenes,
    )
    partial = service.submit(
        {"type": "embedding", "tags": {"note": EVIL}}, [*scenes[:2], (EVIL, b"no picture")]
    )
    for job in (lens, partial):
        service.finish(job)
    made = service.client.post("/v1/image-sets", json={"name": EVIL}).raise_for_status().json()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for name, data in scenes:
            file.writestr(name.replace("/", "_"), data)
    endpoint = service.client.post(
        "/v1/webhook-endpoints", json={"url": f"http://127.0.0.1:{service.port}/nothing", "description": EVIL}
    )
    return Content(lens["id"], partial["id"], made["id"], endpoint.raise_for_status().json()["id"])


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


@pytest.fixture
def signed_in(service: RunningService, chromium: Browser) -> Iterator[Signed]:
    """Opens a browser that somebody is signed in with; in the end it has asked nobody but the service."""
    address = f"http://127.0.0.1:{service.port}"
    opened: list[Watched] = []

    def make(email: str = ADMIN, **options: Any) -> Watched:
        context = chromium.new_context(**{"viewport": {"width": 1400, "height": 900}, **options})
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
        watched.open("/admin/sign-in")
        watched.page.get_by_label("Email address").fill(email)
        watched.page.get_by_label("Password").fill(PASSWORD)
        watched.page.get_by_role("button", name="Sign in").click()
        watched.page.wait_for_url(f"{address}/admin/")
        return watched

    yield make
    for watched in opened:
        assert watched.elsewhere == []
        assert watched.complaints == []
        watched.page.context.close()
