"""One's own account: where it is signed in, and its password."""

import asyncio
import uuid

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session

from api.dashboard.forms import read_form
from api.dashboard.pages import go, page
from api.dashboard.sign_in_limits import limits_of
from api.dashboard.visitor import Looking, Visitor
from api.deps import ReadingDep, ServicesDep
from jobs import accounts, audit
from jobs.errors import SignInRefusedError

router = APIRouter()


@router.get("/account")
async def show_account(request: Request, visitor: Looking, session: ReadingDep) -> Response:
    """Who one is, and the browsers that one is signed in with."""
    found = await session.scalars(accounts.sessions_of(visitor.account_id))
    return page(request, "own_account.html", visitor, sessions=found.all())


@router.post("/account/sessions/{session_id}/end")
async def end_session(session_id: uuid.UUID, visitor: Looking, services: ServicesDep) -> Response:
    """Sign another browser out."""
    async with services.sessions.begin() as session:
        await session.run_sync(accounts.revoke_sessions, visitor.account_id, session_id)
    return go("/admin/account", "session-ended")


@router.post("/account/password")
async def change_password(request: Request, visitor: Looking, services: ServicesDep) -> Response:
    """Change one's password: by the one before it, and all browsers are signed out."""
    form = await read_form(request)
    limits = limits_of(request)
    limits.take(request.client.host if request.client else None, visitor.email)
    async with services.sessions() as session:
        account = await session.scalar(accounts.account_named(visitor.email))
    async with limits.checking:
        if not await asyncio.to_thread(accounts.verify, account, form.secret("password")):
            raise SignInRefusedError("This is not your password.", pointer="/password")
        hashed = await asyncio.to_thread(accounts.hash_password, form.secret("new_password"))
    async with services.sessions.begin() as session:
        await session.run_sync(_change, visitor, hashed)
    return go("/admin/sign-in", "password-changed")


def _change(session: Session, visitor: Visitor, hashed: str) -> None:
    accounts.change_password(session, visitor.account_id, hashed)
    audit.note(session, visitor.actor, "account.password_changed", visitor.email, tenant=visitor.tenant)
