"""Somebody who looks at the dashboard: an account, signed in, in a client that behaves as a browser does."""

import re
import uuid
from collections.abc import Callable
from typing import Any

from argon2 import PasswordHasher
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from jobs.accounts import NewAccount, create_account
from models.audit import AuditEntry
from models.types import Role

SeenBy = Callable[..., TestClient]
PASSWORD = "correct horse battery"
HASH = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
"""As little work as argon2 admits: at the service's own cost half of a test's time would be signing in."""
OWN = {"Sec-Fetch-Site": "same-origin"}


def add_account(
    sessions: sessionmaker[Session], email: str, role: Role = Role.ADMIN, tenant: str | None = None
) -> None:
    with sessions.begin() as session:
        create_account(session, NewAccount(email, HASH, role, tenant))


def sign_in(client: TestClient, email: str, password: str = PASSWORD) -> TestClient:
    """The same client, signed in from now on; it follows no redirects."""
    answer = client.post(
        "/admin/sign-in", data={"email": email, "password": password}, headers=OWN, follow_redirects=False
    )
    assert answer.status_code == 303, answer.text
    client.headers.update(OWN)
    client.follow_redirects = False
    return client


def once_in(page: str) -> str:
    """The word in the hidden field of a page's form, of which it makes one thing."""
    (word,) = set(re.findall(r'<input type="hidden" name="once" value="(\w{32})">', page))
    return str(word)


def audited(sessions: sessionmaker[Session]) -> list[tuple[str, str, str, str | None, str | None]]:
    """What was done, without who signed in: who, what, to what, whose, why."""
    with sessions() as session:
        rows = session.scalars(select(AuditEntry).order_by(AuditEntry.id))
        return [
            (row.actor, row.verb, row.target, row.tenant, row.reason)
            for row in rows
            if row.verb != "account.signed_in"
        ]


def audit_entries(sessions: sessionmaker[Session]) -> list[AuditEntry]:
    with sessions() as session:
        wanted = select(AuditEntry).where(AuditEntry.verb != "account.signed_in").order_by(AuditEntry.id)
        return list(session.scalars(wanted))


def wire(job_id: uuid.UUID) -> str:
    return f"job_{job_id.hex}"


def files(*pictures: bytes, name: str = "scene.jpg") -> list[tuple[str, Any]]:
    return [("images", (name, picture, "image/jpeg")) for picture in pictures]
