"""Every page in light and dark, on a wide screen and a phone: held to WCAG, and to running nothing of users'.

With LENSQUEUE_SCREENSHOTS=docs/dashboard the pictures of the documentation are taken on the way.
"""

import os
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser.conftest import ADMIN, EVIL, STRANGER, Content, Signed

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

PAGES = {
    "overview": "/admin/",
    "jobs": "/admin/jobs",
    "jobs-filtered": "/admin/jobs?state=failed&state=partial",
    "act": "/admin/jobs/act?verb=retry&state=partial&tenant=tests",
    "new-job": "/admin/jobs/new?tenant=tests",
    "job": "/admin/jobs/{lens}",
    "job-failures": "/admin/jobs/{failed}?failed=1",
    "lens": "/admin/jobs/{lens}/items/0",
    "embedding": "/admin/jobs/{failed}/items/0",
    "sets": "/admin/sets",
    "set": "/admin/sets/{set_id}",
    "workers": "/admin/workers",
    "queues": "/admin/queues",
    "keys": "/admin/keys",
    "webhooks": "/admin/webhooks",
    "webhook": "/admin/webhooks/{endpoint}",
    "accounts": "/admin/accounts",
    "audit": "/admin/audit",
    "account": "/admin/account",
    "refused": "/admin/jobs/job_00000000000000000000000000000000",
}
GRAVE = {"serious", "critical"}
PICTURES = os.environ.get("LENSQUEUE_SCREENSHOTS")
SETTLE_MS = 700
"""Charts are drawn, pictures there."""


def _path(name: str, content: Content, *, evil: bool = False) -> str:
    names = "lens", "failed", "set_id", "endpoint"
    ids = (content.evil_lens, content.evil_failed, content.evil_set, content.evil_endpoint)
    if not evil:
        ids = (content.lens, content.failed, content.set_id, content.endpoint)
    return PAGES[name].format(**dict(zip(names, ids, strict=True)))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_no_grave_finding_and_fits(
    signed_in: Signed, content: Content, name: str, scheme: str
) -> None:
    watched = signed_in(ADMIN, color_scheme=scheme)
    page = watched.open(_path(name, content))
    page.wait_for_timeout(SETTLE_MS)
    found = Axe().run(page).response["violations"]
    grave = [(each["id"], each["nodes"][0]["html"][:200]) for each in found if each["impact"] in GRAVE]
    assert grave == []
    if PICTURES:
        Path(PICTURES).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(PICTURES) / f"{name}-{scheme}.png", full_page=True)
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(100)
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 390
    if PICTURES and scheme == "light":
        page.screenshot(path=Path(PICTURES) / f"{name}-phone.png", full_page=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_sign_in_has_no_grave_finding(signed_in: Signed, kept: dict[str, Any], scheme: str) -> None:
    watched = signed_in(ADMIN, color_scheme=scheme)
    watched.open("/admin/account")
    kept.clear()
    watched.page.get_by_role("button", name="Sign out", exact=True).click()
    expect(watched.page.get_by_role("heading", name="Sign in")).to_be_visible()
    found = Axe().run(watched.page).response["violations"]
    assert [each["id"] for each in found if each["impact"] in GRAVE] == []
    if PICTURES:
        watched.page.screenshot(path=Path(PICTURES) / f"sign-in-{scheme}.png")


@pytest.mark.parametrize(
    "name", ["jobs", "job", "job-failures", "lens", "sets", "set", "webhooks", "webhook"]
)
def test_what_users_wrote_is_read_and_never_runs(signed_in: Signed, content: Content, name: str) -> None:
    page = signed_in().open(_path(name, content, evil=True))
    page.wait_for_timeout(SETTLE_MS)
    assert EVIL in page.locator("body").inner_text()
    # were it markup there would be a picture from nowhere; a dialog would be a complaint
    assert page.locator('img[src="x"]').count() == 0


@pytest.mark.parametrize("name", ["job", "lens", "set", "webhook"])
def test_another_tenant_finds_nothing(signed_in: Signed, content: Content, name: str) -> None:
    page = signed_in(STRANGER).open(_path(name, content, evil=True))
    assert "not-found" in page.locator("main").inner_text()
    assert EVIL not in page.content()


def test_pages_work_without_scripts(signed_in: Signed, content: Content) -> None:
    watched = signed_in(ADMIN, java_script_enabled=False)
    page = watched.open(_path("lens", content))
    shown = page.locator(".layer-now [data-layer-shown]").inner_text()
    page.locator("[data-to-layer]").first.click()
    assert page.locator(".layer-now [data-layer-shown]").inner_text() != shown
    page = watched.open(_path("jobs", content))
    expect(page.locator("tbody tr").first).to_be_visible()
