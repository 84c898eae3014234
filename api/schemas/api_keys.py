"""API keys on the wire: made with a name and scopes, shown once, told apart by how they begin."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field

from api.schemas.ids import key_id
from api.schemas.pages import cut
from api.schemas.wire import WHOLE, Wire, storable
from models.api_key import ApiKey
from models.types import Scope

MAX_NAME = 200
MAX_REQUESTS_PER_MINUTE = 10_000_000
MAX_EXPIRES_IN_S = 10 * 366 * 86_400

Named = Annotated[str, Field(min_length=1, max_length=MAX_NAME), AfterValidator(storable)]
ScopeName = Literal["submit", "read", "admin"]


class NewKey(Wire):
    """A key to be made, for the tenant of the key that makes it."""

    name: Named = Field(description="What it is for, for people.")
    scopes: list[ScopeName] = Field(
        ["submit", "read"],
        min_length=1,
        max_length=len(Scope),
        description="What it may be used for: `submit` jobs and pictures, `read` them, or `admin`.",
    )
    requests_per_minute: Annotated[int, Field(ge=1, le=MAX_REQUESTS_PER_MINUTE), WHOLE] | None = Field(
        None,
        description="Its own rate limit; null for that of the service.",
    )
    expires_in_s: Annotated[int, Field(ge=1, le=MAX_EXPIRES_IN_S), WHOLE] | None = Field(
        None, description="From now on; null for a key that does not expire."
    )

    def expires_in(self) -> timedelta | None:
        """The same as a span of time."""
        return None if self.expires_in_s is None else timedelta(seconds=self.expires_in_s)


class KeyView(BaseModel):
    """What is known of a key; the key itself is kept nowhere."""

    id: str
    name: str
    hint: str = Field(description="How the key begins.")
    scopes: list[Scope]
    requests_per_minute: int | None = Field(description="Its own rate limit; null for that of the service.")
    created_at: datetime
    last_used_at: datetime | None = Field(description="To within some minutes; null until it is used.")
    expires_at: datetime | None
    revoked_at: datetime | None


class MadeKey(KeyView):
    """A key as it was just made."""

    key: str | None = Field(
        description="The key: this answer is the only one that shows it. Null where the request was sent"
        " again with its Idempotency-Key."
    )


class KeysPage(BaseModel):
    """A page of keys, newest first."""

    items: list[KeyView]
    next_page_token: str | None


def view(row: ApiKey) -> KeyView:
    """What the wire shows of a key."""
    return KeyView(
        id=key_id(row.id),
        name=row.name,
        hint=row.hint,
        scopes=[Scope(scope) for scope in row.scopes],
        requests_per_minute=row.requests_per_minute,
        created_at=row.created_at,
        last_used_at=row.last_used_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )


def made(row: ApiKey, key: str | None) -> MadeKey:
    """What the wire shows of a key that was just made."""
    return MadeKey(**dict(view(row)), key=key)


def page(rows: Sequence[ApiKey], limit: int) -> KeysPage:
    """The page of one row more than it may hold, if there is one more."""
    shown, token = cut(rows, limit)
    return KeysPage(items=[view(row) for row in shown], next_page_token=token)
