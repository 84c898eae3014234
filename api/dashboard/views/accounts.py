"""Accounts: who can sign in to the dashboard, made, disabled and enabled, and given another password."""

import asyncio
import uuid
from typing import Final

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session

from api.dashboard.addresses import PAGE, cut_page
from api.dashboard.forms import Form, read_form
from api.dashboard.pages import go, page
from api.dashboard.sign_in_limits import limits_of
from api.dashboard.visitor import Managing, Visitor
from api.deps import ReadingDep, Services, ServicesDep
from api.schemas.pages import decode_token
from jobs import accounts, audit
from jobs.accounts import NewAccount
from jobs.errors import InvalidRequestError, NotFoundError
from models.account import Account
from models.types import Role

router = APIRouter()

HERE: Final = "/admin/accounts"


@router.get("/accounts")
async def list_accounts(
    request: Request, visitor: Managing, session: ReadingDep, page_token: str | None = None
) -> Response:
    """The accounts that the visitor manages, newest first."""
    before = decode_token(page_token)
    found = await session.scalars(accounts.accounts_page(visitor.tenant, before=before, limit=PAGE))
    rows, pager = cut_page(found.all(), page_token, HERE)
    return page(
        request,
        "accounts.html",
        visitor,
        rows=rows,
        roles=tuple(Role),
        min_password=accounts.MIN_PASSWORD,
        **pager,
    )


@router.post("/accounts")
async def create_account(request: Request, visitor: Managing, services: ServicesDep) -> Response:
    """Make an account; that of one tenant makes those of its tenant alone."""
    form = await read_form(request)
    email, role = accounts.check_email(form.text("email")), _role(form)
    tenant = visitor.tenant
    if tenant is None and form.text("tenant", required=False):
        tenant = form.tenant()
    new = NewAccount(email, await _hash(request, form), role, tenant)
    async with services.sessions.begin() as session:
        await session.run_sync(_create, visitor, new)
    return go(HERE, "account-created")


@router.post("/accounts/{account_id}/disable")
async def disable_account(
    request: Request, account_id: uuid.UUID, visitor: Managing, services: ServicesDep
) -> Response:
    """Let an account sign in no more."""
    form = await read_form(request)
    async with services.sessions.begin() as session:
        await session.run_sync(_disable, visitor, account_id, form.reason())
    return go(HERE, "account-disabled")


@router.post("/accounts/{account_id}/enable")
async def enable_account(
    request: Request, account_id: uuid.UUID, visitor: Managing, services: ServicesDep
) -> Response:
    """Let an account sign in again."""
    form = await read_form(request)
    async with services.sessions.begin() as session:
        await session.run_sync(_enable, visitor, account_id, form.reason())
    return go(HERE, "account-enabled")


@router.post("/accounts/{account_id}/password")
async def set_password(
    request: Request, account_id: uuid.UUID, visitor: Managing, services: ServicesDep
) -> Response:
    """Give somebody else another password; one's own is changed by the one before it."""
    form = await read_form(request)
    if account_id == visitor.account_id:
        raise InvalidRequestError("Change your own password on the page of your account.")
    await _check_seen(services, visitor, account_id)
    hashed = await _hash(request, form)
    async with services.sessions.begin() as session:
        await session.run_sync(_set_password, visitor, account_id, hashed, form.reason())
    return go(HERE, "password-changed")


async def _hash(request: Request, form: Form) -> str:
    # before any transaction, and only so many at once: each takes 64 MiB
    async with limits_of(request).checking:
        return await asyncio.to_thread(accounts.hash_password, form.secret("password"))


async def _check_seen(services: Services, visitor: Visitor, account_id: uuid.UUID) -> None:
    async with services.reading() as session:
        if await session.scalar(accounts.account_of(visitor.tenant, account_id)) is None:
            raise NotFoundError


def _role(form: Form) -> Role:
    try:
        return Role(form.text("role"))
    except ValueError:
        raise InvalidRequestError(f"A role is one of: {', '.join(Role)}.", pointer="/role") from None


def _create(session: Session, visitor: Visitor, new: NewAccount) -> None:
    account = accounts.create_account(session, new)
    _note(session, visitor, "account.created", account)


def _disable(session: Session, visitor: Visitor, account_id: uuid.UUID, reason: str | None) -> None:
    account = _find(session, visitor, account_id)
    accounts.disable(session, account)
    _note(session, visitor, "account.disabled", account, reason)


def _enable(session: Session, visitor: Visitor, account_id: uuid.UUID, reason: str | None) -> None:
    account = _find(session, visitor, account_id)
    accounts.enable(session, account)
    _note(session, visitor, "account.enabled", account, reason)


def _set_password(
    session: Session, visitor: Visitor, account_id: uuid.UUID, hashed: str, reason: str | None
) -> None:
    account = _find(session, visitor, account_id)
    accounts.change_password(session, account.id, hashed)
    _note(session, visitor, "account.password_changed", account, reason)


def _find(session: Session, visitor: Visitor, account_id: uuid.UUID) -> Account:
    account = session.scalar(accounts.account_of(visitor.tenant, account_id))
    if account is None:
        raise NotFoundError
    return account


def _note(session: Session, visitor: Visitor, verb: str, account: Account, reason: str | None = None) -> None:
    audit.note(session, visitor.actor, verb, account.email, tenant=account.tenant, reason=reason)
