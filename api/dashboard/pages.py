"""Templates to answers: the one Jinja environment of the dashboard, and how it writes numbers and times."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from api.dashboard.visitor import Visitor

FOLDER: Final = Path(__file__).resolve().parent / "templates"
UNKNOWN: Final = "\N{EN DASH}"
TOLD: Final = {
    "job-cancelled": "The job is being cancelled.",
    "job-retried": "It is tried again, as this new job.",
    "job-deleted": "The job and its results are deleted.",
    "job-submitted": "The job is accepted.",
    "action-accepted": "It is being done in the background; this page shows how far it is.",
    "queue-paused": "The queue is paused: jobs are accepted and wait.",
    "queue-draining": "The queue is paused, and its workers finish what they hold and claim no more.",
    "queue-resumed": "The queue goes on.",
    "worker-draining": "The worker finishes what it holds and claims no more.",
    "key-made-before": "The key was made, and shown once. If you did not see it, revoke it and make another.",
    "key-revoked": "The key is refused from now on.",
    "set-deleted": "The image set is deleted.",
    "set-sealed": "The version is sealed: it will never change.",
    "endpoint-verified": "The endpoint has answered, and is told of the jobs that name it.",
    "endpoint-not-verified": "The endpoint was asked, and did not answer as it should; it says why below.",
    "endpoint-enabled": "The endpoint is told of the jobs that name it again.",
    "endpoint-disabled": "The endpoint is told nothing any more.",
    "secret-rotated-before": "The secret was rotated, and shown once. If you did not see it, do it again.",
    "endpoint-deleted": "The endpoint is deleted.",
    "message-sent-again": "The message is on its way once more.",
    "message-sent-before": "This form was sent before: the message went out once more then.",
    "account-created": "The account can sign in now.",
    "account-disabled": "The account is disabled, and its sessions are ended.",
    "account-enabled": "The account can sign in again.",
    "password-changed": "The password is changed; all its sessions are ended.",
    "session-ended": "The session is ended.",
}
"""What a page says at its top after something was done; an address names one, and cannot say another."""


def ago(moment: datetime | None) -> str:
    """How long ago something was, in the largest fitting unit."""
    if moment is None:
        return "never"
    seconds = (datetime.now(UTC) - moment).total_seconds()
    if abs(seconds) < 1:
        return "just now"
    return f"{span(abs(seconds))} ago" if seconds >= 0 else f"in {span(-seconds)}"


def span(seconds: float | timedelta | None) -> str:
    """A length of time, in the largest fitting unit."""
    if seconds is None:
        return UNKNOWN
    value = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
    if value < 1:
        return f"{value * 1000:.0f} ms"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if value >= size:
            return f"{value / size:.1f} {unit}" if value < 10 * size else f"{value / size:.0f} {unit}"
    return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"  # noqa: PLR2004 - two digits are enough


def number(value: float | None) -> str:
    """A number with its thousands apart."""
    if value is None:
        return UNKNOWN
    return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"


def size(value: float | None) -> str:
    """A number of bytes, in the largest fitting unit."""
    if value is None:
        return UNKNOWN
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if value >= 1024**power:
            return f"{value / 1024**power:.1f} {unit}"
    return f"{value:.0f} B"


def percent(value: float | None) -> str:
    """A share of 1; what is not nothing is not told as nothing."""
    if value is None:
        return UNKNOWN
    return "< 0.1%" if 0 < value < 0.0005 else f"{100 * value:.1f}%"  # noqa: PLR2004 - it rounds to 0


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(FOLDER),
        # of every template: what users wrote is text, never markup
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update({"ago": ago, "span": span, "number": number, "size": size, "percent": percent})
    return made


ENVIRONMENT: Final = _environment()


def page(
    request: Request, template: str, visitor: Visitor | None, *, status: int = 200, **facts: Any
) -> HTMLResponse:
    """A whole page, or a part of one, with what a template needs to know."""
    told = TOLD.get(request.query_params.get("told", ""))
    shown = ENVIRONMENT.get_template(template).render(
        visitor=visitor, path=request.url.path, told=told, **facts
    )
    return HTMLResponse(shown, status_code=status)


def go(where: str, told: str | None = None) -> RedirectResponse:
    """To a page, after something was done; a browser that loads it again does nothing twice."""
    if told is None:
        return RedirectResponse(where, status_code=303)
    assert told in TOLD, told
    path, _, query = where.partition("?")
    return RedirectResponse(f"{path}?{query and query + '&'}told={told}", status_code=303)
