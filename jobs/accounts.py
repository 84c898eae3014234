"""Accounts of the dashboard: made by the command line or an admin, and their sessions."""

import hashlib
import re
import secrets
import uuid
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import Row, Select, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from jobs.errors import (
    AccountExistsError,
    InvalidRequestError,
    LastAdminError,
    NotFoundError,
    SignInRefusedError,
)
from models.account import Account, AccountSession
from models.types import Role

MIN_PASSWORD, MAX_PASSWORD = 12, 1_000
MAX_EMAIL: Final = 254
MAX_AGENT: Final = 300
MAX_SESSIONS: Final = 20
"""Of one account; of more, those that were opened first end."""
EMAIL: Final = re.compile(r"[^@\s\x00-\x1f\x7f]+@[^@\s\x00-\x1f\x7f]+")
_hasher = PasswordHasher()


@dataclass(frozen=True, slots=True)
class NewAccount:
    """Who is to be able to sign in; `tenant` is none for one of the operator's, who sees all of them.

    The hash is made before: it takes a tenth of a second, for which no connection is to be held.
    """

    email: str
    password_hash: str
    role: Role
    tenant: str | None = None


def create_account(session: Session, new: NewAccount) -> Account:
    """Make an account; the caller commits.

    Raises:
        InvalidRequestError: this is no email address, or no name of a tenant.
        AccountExistsError: there is one of this address.
    """
    email = check_email(new.email)
    if new.tenant is not None and not new.tenant.strip():
        raise InvalidRequestError("A tenant has a name; without any the account sees all.", pointer="/tenant")
    row: Account | None = session.scalar(
        insert(Account)
        .values(
            email=email,
            role=new.role,
            tenant=new.tenant,
            password_hash=new.password_hash,
        )
        .on_conflict_do_nothing(index_elements=[Account.email])
        .returning(Account)
    )
    if row is None:
        raise AccountExistsError
    return row


def check_email(value: str) -> str:
    """The address as it is kept.

    Raises:
        InvalidRequestError: it is none.
    """
    email = value.strip().lower()
    if len(email) > MAX_EMAIL or EMAIL.fullmatch(email) is None:
        raise InvalidRequestError("This is no email address: name@host.", pointer="/email")
    return email


def hash_password(value: str) -> str:
    """What is kept of a password; it takes a tenth of a second and 64 MiB.

    Raises:
        InvalidRequestError: it is too short, or too long.
    """
    if not MIN_PASSWORD <= len(value) <= MAX_PASSWORD:
        raise InvalidRequestError(
            f"A password has {MIN_PASSWORD} to {MAX_PASSWORD} characters.", pointer="/password"
        )
    return _hasher.hash(value)


def account_named(email: str) -> Select[Account]:
    """The account of an address, also one that is disabled."""
    return select(Account).where(Account.email == email.strip().lower())


def account_of(tenant: str | None, account_id: uuid.UUID) -> Select[Account]:
    """An account, if it is of the tenant, or any (None)."""
    found = select(Account).where(Account.id == account_id)
    return found if tenant is None else found.where(Account.tenant == tenant)


def accounts_page(tenant: str | None, *, before: uuid.UUID | None, limit: int) -> Select[Account]:
    """The accounts of a tenant, or all (None), newest first: one more than `limit`."""
    page = select(Account).order_by(Account.id.desc()).limit(limit + 1)
    if tenant is not None:
        page = page.where(Account.tenant == tenant)
    return page if before is None else page.where(Account.id < before)


def verify(account: Account | None, password: str) -> bool:
    """Whether this is the password of an account that may sign in.

    It takes a tenth of a second and 64 MiB, also where there is no account: nobody learns who has one.
    """
    known = account is not None and account.disabled_at is None
    try:
        matches = _hasher.verify(account.password_hash if known and account else _nobodys(), password)
    except (VerificationError, InvalidHashError):
        return False
    return matches and known


def change_password(session: Session, account_id: uuid.UUID, password_hash: str) -> None:
    """Give an account another password, and end its sessions.

    Raises:
        NotFoundError: there is no such account.
    """
    changed = update(Account).where(Account.id == account_id).values(password_hash=password_hash)
    if session.scalar(changed.returning(Account.id)) is None:
        raise NotFoundError
    revoke_sessions(session, account_id)


def disable(session: Session, account: Account) -> None:
    """Let an account sign in no more, and end its sessions; disabled again, it stays so.

    Raises:
        LastAdminError: nobody could manage accounts then.
    """
    # locked, in one order: of two that disable each other, the second one sees what the first did
    admins = session.scalars(
        select(Account.id)
        .where(Account.role == Role.ADMIN, Account.tenant.is_(None), Account.disabled_at.is_(None))
        .order_by(Account.id)
        .with_for_update()
    ).all()
    if list(admins) == [account.id]:
        raise LastAdminError
    session.execute(
        update(Account)
        .where(Account.id == account.id, Account.disabled_at.is_(None))
        .values(disabled_at=func.now())
    )
    revoke_sessions(session, account.id)


def enable(session: Session, account: Account) -> None:
    """Let an account sign in again."""
    session.execute(update(Account).where(Account.id == account.id).values(disabled_at=None))


def open_session(
    session: Session, verified: Account, lasts: timedelta, agent: str, *, before: str | None = None
) -> str:
    """Sign a browser in to an account whose password was verified; returns the token, kept as a hash only.

    The session of the token `before`, with which the browser comes, ends.

    Raises:
        SignInRefusedError: it was disabled meanwhile, or has another password.
    """
    # the account before its sessions, in the order in which others lock them
    account = session.scalar(
        select(Account)
        .where(Account.id == verified.id, Account.password_hash == verified.password_hash)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if account is None or account.disabled_at is not None:
        raise SignInRefusedError
    if before:
        end_token(session, before)
    token = secrets.token_urlsafe(32)
    session.execute(
        insert(AccountSession).values(
            account_id=account.id,
            sha256=hash_token(token),
            agent=agent[:MAX_AGENT],
            ends_at=func.now() + lasts,
        )
    )
    kept = (
        select(AccountSession.id)
        .where(AccountSession.account_id == account.id)
        .order_by(AccountSession.id.desc())
        .limit(MAX_SESSIONS)
    )
    session.execute(
        delete(AccountSession).where(
            AccountSession.account_id == account.id, AccountSession.id.not_in(kept.scalar_subquery())
        )
    )
    session.execute(update(Account).where(Account.id == account.id).values(signed_in_at=func.now()))
    return token


SIGNED_IN: Final = text("""
    SELECT account_sessions.id AS session_id, accounts.id AS account_id, email, role, tenant,
           account_sessions.seen_at < now() - interval '1 minute' AS to_be_noted
    FROM account_sessions JOIN accounts ON accounts.id = account_id
    WHERE sha256 = :sha256 AND revoked_at IS NULL AND ends_at > now() AND disabled_at IS NULL
""")
"""Whose session a token is, if it has not ended; every page asks for its own."""

NOTE_SEEN: Final = text("UPDATE account_sessions SET seen_at = now() WHERE id = :session_id")


def find_signed_in(session: Session, token: str) -> Row[Any]:
    """Whose session a token is.

    Raises:
        NotFoundError: nobody's, or it has ended.
    """
    row = session.execute(SIGNED_IN, {"sha256": hash_token(token)}).one_or_none()
    if row is None:
        raise NotFoundError
    if row.to_be_noted:
        session.execute(NOTE_SEEN, {"session_id": row.session_id})
    return row


def sessions_of(account_id: uuid.UUID) -> Select[AccountSession]:
    """The sessions of an account that have not ended, newest first."""
    return (
        select(AccountSession)
        .where(
            AccountSession.account_id == account_id,
            AccountSession.revoked_at.is_(None),
            AccountSession.ends_at > func.now(),
        )
        .order_by(AccountSession.id.desc())
        .limit(MAX_SESSIONS)
    )


def revoke_sessions(session: Session, account_id: uuid.UUID, session_id: uuid.UUID | None = None) -> int:
    """End one session of an account, or all; returns how many had not ended before."""
    revoked = (
        update(AccountSession)
        .where(AccountSession.account_id == account_id, AccountSession.revoked_at.is_(None))
        .values(revoked_at=func.now())
        .returning(AccountSession.id)
    )
    if session_id is not None:
        revoked = revoked.where(AccountSession.id == session_id)
    return len(session.execute(revoked).all())


def end_token(session: Session, token: str) -> None:
    """End the session of a token, if there is one."""
    session.execute(
        update(AccountSession)
        .where(AccountSession.sha256 == hash_token(token), AccountSession.revoked_at.is_(None))
        .values(revoked_at=func.now())
    )


def forget_sessions(session: Session) -> int:
    """A duty: remove the sessions that ended a week ago; returns how many."""
    old = (
        delete(AccountSession)
        .where(AccountSession.ends_at < func.now() - timedelta(days=7))
        .returning(AccountSession.id)
    )
    return len(session.execute(old).all())


def hash_token(token: str) -> str:
    """What is kept of a session's token: 256 random bits, for which a plain hash is enough."""
    return hashlib.sha256(token.encode()).hexdigest()


@lru_cache(maxsize=1)
def _nobodys() -> str:
    return _hasher.hash(secrets.token_urlsafe(32))
