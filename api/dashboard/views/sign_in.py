"""Signing in and out."""

import asyncio
from datetime import timedelta
from typing import Final

import structlog
from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session

from api.dashboard.forms import read_form
from api.dashboard.pages import go, page
from api.dashboard.security import COOKIE, drop_cookie, keep_cookie
from api.dashboard.sign_in_limits import limits_of
from api.dashboard.visitor import Looking
from api.deps import ServicesDep
from api.errors import RateLimitedError
from jobs import accounts, audit
from jobs.audit import Actor
from jobs.errors import SignInRefusedError
from models.account import Account

log = structlog.get_logger()
router = APIRouter()

HOME: Final = "/admin/"


@router.get("/sign-in")
async def show_sign_in(request: Request) -> Response:
    """The form."""
    return page(request, "sign_in.html", None, next=_own_page(request.query_params.get("next")), error=None)


@router.post("/sign-in")
async def sign_in(request: Request, services: ServicesDep) -> Response:
    """Check the password and give the browser a session, or show the form again."""
    form = await read_form(request)
    email, password = form.text("email", required=False), form.secret("password")[: accounts.MAX_PASSWORD + 1]
    next_page = _own_page(form.text("next", required=False))
    try:
        token = await _check(request, services, email, password)
    except (SignInRefusedError, RateLimitedError) as error:
        log.info("sign_in.refused", code=error.code)
        status = 429 if isinstance(error, RateLimitedError) else 422
        shown = page(request, "sign_in.html", None, status=status, next=next_page, error=error.message)
        if isinstance(error, RateLimitedError):
            shown.headers["Retry-After"] = str(error.retry_after_s)
        return shown
    answer = go(next_page)
    keep_cookie(answer, token, services.settings.admin_session_hours * 3_600)
    return answer


@router.post("/sign-out")
async def sign_out(request: Request, visitor: Looking, services: ServicesDep) -> Response:
    """End the session here and in the database."""
    async with services.sessions.begin() as session:
        await session.run_sync(accounts.revoke_sessions, visitor.account_id, visitor.session_id)
    answer = go("/admin/sign-in")
    drop_cookie(answer)
    # what the browser kept of the pages goes too
    answer.headers["Clear-Site-Data"] = '"cache", "storage"'
    return answer


async def _check(request: Request, services: ServicesDep, email: str, password: str) -> str:
    """The token of a new session.

    Raises:
        SignInRefusedError: the two do not belong together.
        RateLimitedError: too much was tried.
    """
    limits = limits_of(request)
    address = request.client.host if request.client else None
    limits.take(address, email)
    async with services.sessions() as session:
        account = await session.scalar(accounts.account_named(email))
    # no connection is held, and only so many are checked at once: each takes 64 MiB
    async with limits.checking:
        matches = await asyncio.to_thread(accounts.verify, account, password)
    if not matches or account is None:
        raise SignInRefusedError
    limits.forgive(email)
    agent = request.headers.get("User-Agent", "")
    lasts = timedelta(hours=services.settings.admin_session_hours)
    # of whoever was signed in here before, the session ends
    before = request.cookies.get(COOKIE)
    async with services.sessions.begin() as session:
        return await session.run_sync(_open, account, lasts, agent, before)


def _open(session: Session, account: Account, lasts: timedelta, agent: str, before: str | None) -> str:
    token = accounts.open_session(session, account, lasts, agent, before=before)
    actor = Actor(account.email, account.id)
    audit.note(session, actor, "account.signed_in", account.email, tenant=account.tenant)
    return token


def _own_page(wanted: str | None) -> str:
    """Where to go when signed in: a page of the dashboard, whatever a link says."""
    if wanted and wanted.startswith("/admin/") and "\\" not in wanted and wanted.isprintable():
        return wanted
    return HOME
