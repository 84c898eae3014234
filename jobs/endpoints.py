"""Webhook endpoints: where a tenant wants to be told, once it has shown that it does. No verb commits."""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import httpx
from sqlalchemy import Select, func, select, update
from sqlalchemy.orm import Session

from jobs.egress import port_of
from jobs.errors import (
    NotFoundError,
    TooManyWebhookEndpointsError,
    UnknownWebhookEndpointError,
    WebhookEndpointNotEnabledError,
)
from jobs.messages import new_secret
from models.session import Database
from models.types import EndpointState
from models.webhook import WebhookEndpoint

LOCK_SPACE: Final = 0x4C52
"""Of the advisory locks under which a tenant's endpoints are counted, beside those of the duties."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What is to be different about an endpoint; None stays as it is."""

    url: httpx.URL | None = None
    description: str | None = None
    enabled: bool | None = None


def create_endpoint(
    session: Session,
    tenant: str,
    url: httpx.URL,
    description: str,
    most: int,
    *,
    endpoint_id: uuid.UUID | None = None,
) -> WebhookEndpoint:
    """Make an endpoint that is told nothing before it is verified; the caller shows its secret once.

    Raises:
        TooManyWebhookEndpointsError: the tenant has `most` of them.
    """
    # of two at the same time, the second counts the first one too
    session.execute(select(func.pg_advisory_xact_lock(LOCK_SPACE, func.hashtext(tenant))))
    kept = select(func.count()).where(
        WebhookEndpoint.tenant == tenant, WebhookEndpoint.state != EndpointState.DELETED
    )
    if (session.scalar(kept) or 0) >= most:
        raise TooManyWebhookEndpointsError(f"You have {most} webhook endpoints: delete one first.")
    endpoint = WebhookEndpoint(
        id=endpoint_id,
        tenant=tenant,
        url=str(url),
        destination=_destination(url),
        description=description,
        secret=new_secret(),
    )
    session.add(endpoint)
    session.flush()
    return endpoint


def endpoint_of(tenant: str | None, endpoint_id: uuid.UUID) -> Select[WebhookEndpoint]:
    """An endpoint, if it is the tenant's, or of any (None), and not deleted."""
    found = select(WebhookEndpoint).where(
        WebhookEndpoint.id == endpoint_id, WebhookEndpoint.state != EndpointState.DELETED
    )
    return found if tenant is None else found.where(WebhookEndpoint.tenant == tenant)


def endpoints_page(tenant: str | None, *, before: uuid.UUID | None, limit: int) -> Select[WebhookEndpoint]:
    """A tenant's endpoints, or those of all (None), newest first: one more than `limit`."""
    page = select(WebhookEndpoint).where(WebhookEndpoint.state != EndpointState.DELETED)
    if tenant is not None:
        page = page.where(WebhookEndpoint.tenant == tenant)
    if before is not None:
        page = page.where(WebhookEndpoint.id < before)
    return page.order_by(WebhookEndpoint.id.desc()).limit(limit + 1)


def change_endpoint(
    session: Session, tenant: str, endpoint_id: uuid.UUID, changes: Changes
) -> WebhookEndpoint:
    """Change an endpoint; with another URL it has to be verified anew.

    Raises:
        NotFoundError: the tenant has no such endpoint.
    """
    endpoint = hold_endpoint(session, tenant, endpoint_id)
    if changes.description is not None:
        endpoint.description = changes.description
    if changes.url is not None and str(changes.url) != endpoint.url:
        endpoint.url = str(changes.url)
        endpoint.destination = _destination(changes.url)
        endpoint.verified_at = None
        if endpoint.state != EndpointState.DISABLED:
            _put(endpoint, EndpointState.PENDING, "The URL was changed, and is not verified yet.")
    if changes.enabled is False:
        _put(endpoint, EndpointState.DISABLED, "It was disabled on request.")
    elif changes.enabled and endpoint.state == EndpointState.DISABLED:
        if endpoint.verified_at is None:
            _put(endpoint, EndpointState.PENDING, "It is not verified yet.")
        else:
            _put(endpoint, EndpointState.ENABLED, None)
    session.flush()
    return endpoint


def delete_endpoint(session: Session, tenant: str, endpoint_id: uuid.UUID) -> None:
    """Forget an endpoint: unknown from now on, its secrets gone.

    Raises:
        NotFoundError: the tenant has no such endpoint.
    """
    endpoint = hold_endpoint(session, tenant, endpoint_id)
    _put(endpoint, EndpointState.DELETED, "It was deleted.")
    endpoint.secret = ""
    endpoint.previous_secret = endpoint.previous_secret_until = None
    session.flush()


def rotate_secret(session: Session, tenant: str, endpoint_id: uuid.UUID, keep: timedelta) -> WebhookEndpoint:
    """Give an endpoint a new secret; the old one signs too for as long as it is kept.

    Raises:
        NotFoundError: the tenant has no such endpoint.
    """
    endpoint = hold_endpoint(session, tenant, endpoint_id)
    endpoint.previous_secret = endpoint.secret if keep else None
    endpoint.previous_secret_until = datetime.now(UTC) + keep if keep else None
    endpoint.secret = new_secret()
    session.flush()
    return endpoint


def note_verification(session: Session, asked: WebhookEndpoint, fault: str | None) -> WebhookEndpoint:
    """Enable an endpoint that was asked and answered well, or note what was wrong.

    Raises:
        NotFoundError: it was deleted meanwhile.
    """
    endpoint = hold_endpoint(session, asked.tenant, asked.id)
    if endpoint.url != asked.url:
        # another URL by now: whoever changed it asks there
        return endpoint
    if fault is None:
        endpoint.verified_at = datetime.now(UTC)
        # one that was disabled while it was asked stays so
        if endpoint.state == asked.state:
            _put(endpoint, EndpointState.ENABLED, None)
    elif endpoint.state != EndpointState.ENABLED:
        endpoint.state_reason = fault
    session.flush()
    return endpoint


def check_wanted(database: Database, tenant: str, endpoint_id: uuid.UUID) -> None:
    """Refuse a job whose end could not be told.

    Raises:
        UnknownWebhookEndpointError: the tenant has no such endpoint.
        WebhookEndpointNotEnabledError: it is not verified yet, or was disabled.
    """
    state = database.scalar(endpoint_of(tenant, endpoint_id).with_only_columns(WebhookEndpoint.state))
    if state is None:
        raise UnknownWebhookEndpointError(pointer="/webhook/endpoint_id")
    if state != EndpointState.ENABLED:
        raise WebhookEndpointNotEnabledError(
            f"This webhook endpoint is {state}: verify or enable it first.", pointer="/webhook/endpoint_id"
        )


def secrets_of(endpoint: WebhookEndpoint) -> list[str]:
    """The secrets that sign messages to an endpoint now."""
    kept = endpoint.previous_secret_until
    if endpoint.previous_secret is None or kept is None or kept <= datetime.now(UTC):
        return [endpoint.secret]
    return [endpoint.secret, endpoint.previous_secret]


def forget_secrets(session: Session) -> int:
    """Remove secrets that were replaced and sign no more; returns of how many endpoints."""
    over = (
        update(WebhookEndpoint)
        .where(WebhookEndpoint.previous_secret_until <= func.now())
        .values(previous_secret=None, previous_secret_until=None)
        .returning(WebhookEndpoint.id)
    )
    return len(session.execute(over).all())


def hold_endpoint(session: Session, tenant: str, endpoint_id: uuid.UUID) -> WebhookEndpoint:
    """A tenant's endpoint, held until the commit.

    Raises:
        NotFoundError: the tenant has no such endpoint.
    """
    # no key: whoever ends a job refers to the row, and must not wait
    held = endpoint_of(tenant, endpoint_id).with_for_update(key_share=True)
    endpoint = session.scalar(held.execution_options(populate_existing=True))
    if endpoint is None:
        raise NotFoundError
    return endpoint


def _put(endpoint: WebhookEndpoint, state: EndpointState, reason: str | None) -> None:
    endpoint.state = state
    endpoint.state_reason = reason
    endpoint.failing_since = None


def _destination(url: httpx.URL) -> str:
    return f"{url.raw_host.decode('ascii').lower()}:{port_of(url)}"
