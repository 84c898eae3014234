"""People at work in the dashboard: they submit, watch, look at layers, act on one job and on many."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.acceptance.conftest import RunningService
from tests.browser.conftest import OPERATOR, VIEWER, Content, Signed
from tests.conftest import SAMPLES
from tests.ledger import MODEL, TENANT

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

EMBEDDING = {"type": "embedding", "input": {"texts": ["a cyan ring"]}}
QUEUE = MODEL.replace("/", "-")


def _act(page: Page, verb: str, button: str, reason: str = "") -> None:
    """Open the sheet behind a button, say why, and do it."""
    page.locator("summary", has_text=re.compile(f"^{verb}$")).first.click()
    sheet = page.locator("details.ask[open] form")
    if reason:
        sheet.get_by_label("Why?").fill(reason)
    sheet.get_by_role("button", name=button).click()


def test_a_job_is_submitted_watched_and_looked_at_layer_by_layer(signed_in: Signed) -> None:
    watched = signed_in(OPERATOR)
    page = watched.open("/admin/jobs/new")
    page.get_by_label("Pictures").set_input_files([str(path) for path in sorted(SAMPLES.glob("*.jpg"))[:3]])
    page.get_by_role("textbox", name=re.compile("Labels")).fill("cyan ring\nred heart\norange square")
    page.get_by_role("combobox", name=re.compile("Heatmaps")).select_option("all")
    page.get_by_role("button", name="Submit the job").click()
    # it is never loaded again: what it shows comes by itself
    page.evaluate("window.stayed = true")
    expect(page.locator("#job-head .state")).to_have_text(re.compile("succeeded"), timeout=60_000)
    assert page.evaluate("window.stayed")
    expect(page.locator("#items tbody tr")).to_have_count(3)
    page.locator("#item-0 td.name a").click()
    layer = page.locator(".layer-now [data-layer-shown]")
    last = int(layer.inner_text())
    slider = page.locator("input[data-layers]")
    slider.focus()
    before = page.locator("[data-over]").get_attribute("src")
    cosines = page.locator("[data-cosine]").all_inner_texts()
    slider.press("ArrowLeft")
    expect(layer).to_have_text(str(last - 1))
    expect(page.locator("[data-over]")).not_to_have_attribute("src", before or "")
    assert page.locator("[data-cosine]").all_inner_texts() != cosines
    page.get_by_role("combobox", name="Label").select_option("red heart")
    expect(page.locator("[data-caption]")).to_have_text(f"red heart, layer {last - 1}")
    opacity = page.get_by_label(re.compile("Opacity"))
    opacity.focus()
    opacity.press("Home")
    expect(page.locator("[data-over]")).to_have_css("opacity", "0")
    expect(page.locator(".curve canvas")).to_be_visible()


def test_a_job_is_cancelled_while_its_queue_is_paused_and_the_audit_says_who_and_why(
    service: RunningService, signed_in: Signed
) -> None:
    admin = signed_in()
    page = admin.open("/admin/queues")
    _act(page, "Pause", "Pause it", reason="a look at the fans")
    expect(page.locator(".queue .state.paused")).to_be_visible()
    job = service.submit(EMBEDDING)
    page = admin.open(f"/admin/jobs/{job['id']}")
    expect(page.locator("#job-waits")).to_contain_text("paused")
    _act(page, "Cancel", "Cancel the job", reason="not this one")
    expect(page.locator("#job-head .state")).to_have_text(re.compile("cancelled"), timeout=30_000)
    page = admin.open("/admin/queues")
    _act(page, "Resume", "Resume it")
    expect(page.locator(".queue .state.paused")).to_have_count(0)
    page = admin.open("/admin/audit")
    told = page.locator("tbody tr").all_inner_texts()
    for verb, why in (("queue.paused", "a look at the fans"), ("job.cancelled", "not this one")):
        assert any(verb in line and why in line and "ada@example.org" in line for line in told), told


def test_what_failed_is_tried_again(signed_in: Signed, content: Content) -> None:
    page = signed_in(OPERATOR).open(f"/admin/jobs/{content.failed}")
    expect(page.locator("#item-2")).to_contain_text("failed")
    _act(page, "Try again", "Make the new job")
    expect(page.locator("#job-facts")).to_contain_text("Tries again")
    assert content.failed not in page.url
    expect(page.locator("#job-head .state")).to_have_text(re.compile("failed"), timeout=60_000)


def test_all_jobs_of_a_filter_are_tried_again_once_they_are_counted_and_that_is_typed(
    service: RunningService, signed_in: Signed
) -> None:
    files = [("broken.jpg", b"no picture")]
    for _ in range(3):
        service.finish(service.submit({"type": "embedding", "tags": {"group": "bulk"}}, files))
    page = signed_in(OPERATOR).open("/admin/jobs?state=failed&tag=group%3Abulk")
    page.get_by_role("link", name=re.compile("again", re.IGNORECASE)).click()
    expect(page.locator(".found")).to_contain_text("3")
    page.get_by_label("Why?").fill("the disk was full")
    page.get_by_label(re.compile("to confirm")).fill("retry 2")
    page.locator("main button").first.click()
    expect(page.get_by_role("alert")).to_be_visible()
    page.get_by_label(re.compile("to confirm")).fill("retry 3")
    page.locator("main button").first.click()
    expect(page.locator("#action .state")).to_have_text(re.compile("done"), timeout=60_000)
    page.goto(page.url.split("/admin/")[0] + "/admin/audit")
    line = page.locator("tbody tr", has_text="the disk was full")
    expect(line).to_contain_text("3")
    expect(line).to_contain_text("otto@example.org")


def test_a_worker_is_drained(service: RunningService, signed_in: Signed) -> None:
    service.start_worker("another")
    service.wait_until(
        lambda: (
            len([w for w in service.client.get("/v1/workers").json()["items"] if w["state"] == "online"]) > 1
        ),
        seconds=90,
    )
    page = signed_in().open("/admin/workers?state=online")
    _act(page, "Drain", "Drain it", reason="a new driver")
    page.goto(page.url.split("/admin/")[0] + "/admin/workers")
    expect(page.locator(".worker .state.draining").first).to_be_visible(timeout=30_000)


def test_who_only_looks_finds_nothing_to_press_and_is_refused_when_asking_by_hand(
    service: RunningService, signed_in: Signed, content: Content
) -> None:
    watched = signed_in(VIEWER)
    for path in (
        "/admin/jobs",
        f"/admin/jobs/{content.lens}",
        "/admin/queues",
        "/admin/workers",
        "/admin/sets",
    ):
        page = watched.open(path)
        assert page.locator("main form[method=post]").count() == 0, path
        assert page.locator("details.ask").count() == 0, path
    for path in (
        f"/admin/jobs/{content.lens}/cancel",
        f"/admin/jobs/{content.lens}/delete",
        f"/admin/jobs/{content.failed}/retry",
        f"/admin/queues/{MODEL.replace('/', '%2F')}/pause",
        f"/admin/sets/{content.set_id}/delete",
        "/admin/jobs/act?verb=delete&state=failed",
    ):
        status = watched.page.evaluate("path => fetch(path, {method: 'POST'}).then(r => r.status)", path)
        assert status in {403, 404}, (path, status)
    assert service.client.get(f"/v1/jobs/{content.lens}").json()["state"] == "succeeded"
    assert TENANT


def test_everything_is_reached_by_the_keyboard(signed_in: Signed) -> None:
    page = signed_in().open("/admin/")
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("To the content")
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    page.goto(page.url.split("/admin/")[0] + "/admin/queues")
    page.locator("summary", has_text="Pause").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator("details.ask[open]")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.locator("details.ask[open]")).to_have_count(0)
    expect(page.locator(":focus")).to_have_text("Pause")
