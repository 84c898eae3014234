"""How jobs are asked for in the address of a page: by the filters of /v1/jobs, as forms send them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import Depends, Request
from pydantic import AfterValidator, Field

from api.dashboard.visitor import Looking, Visitor
from api.schemas.job_actions import ActionFilter
from api.schemas.wire import storable
from jobs.actions import dump
from jobs.errors import InvalidRequestError, NotFoundError
from jobs.listing import JobFilter

MAX_TENANT: Final = 300
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_LOCAL: Final = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d+)?)?")

TenantName = Annotated[str, Field(max_length=MAX_TENANT), AfterValidator(storable)]


class Asked(ActionFilter):
    """The filter, and whose jobs."""

    tenant: TenantName | None = None


@dataclass(frozen=True, slots=True)
class JobSearch:
    """Which jobs a page is about: of a tenant, or of all (None), those that a filter finds."""

    tenant: str | None
    wanted: JobFilter
    chosen: bool
    """Whether the visitor chose the tenant: it sees others, too."""

    @property
    def is_narrow(self) -> bool:
        """Whether it says more than whose they are: with all there are nothing is done at once."""
        return self.wanted != JobFilter()

    @property
    def said(self) -> dict[str, Any]:
        """The filter as actions keep it."""
        return dump(self.wanted)

    def query(self, **more: str | None) -> str:
        """What stands behind the question mark of an address, with some beside it."""
        pairs: list[tuple[str, str]] = [(name, value) for name, value in more.items() if value is not None]
        if self.chosen and self.tenant is not None:
            pairs.append(("tenant", self.tenant))
        wanted = self.wanted
        for name, values in (("state", wanted.states), ("type", wanted.types), ("model", wanted.models)):
            pairs += [(name, str(value)) for value in sorted(values)]
        pairs += [("tag", f"{name}:{value}") for name, value in wanted.tags.items()]
        for name, time in (
            ("created_after", wanted.created_after),
            ("created_before", wanted.created_before),
        ):
            if time is not None:
                pairs.append((name, time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")))
        return urlencode(pairs)


async def read_search(request: Request, visitor: Looking) -> JobSearch:
    """The jobs that an address names, of those that the visitor sees; fields left empty say nothing.

    Raises:
        NotFoundError: they are of a tenant whom it does not see.
        InvalidRequestError, ValidationError: it names no such thing.
    """
    given = request.query_params
    said: dict[str, Any] = {name: _all(given.getlist(name)) for name in ("state", "type", "model")}
    said["tags"] = tags_of(_all(given.getlist("tag")))
    for name in ("created_after", "created_before"):
        said[name] = _time(given.get(name, ""))
    said["tenant"] = given.get("tenant", "").strip() or None
    asked = Asked.model_validate(said)
    tenant = _seen(visitor, asked.tenant)
    times = {"created_after": _utc(asked.created_after), "created_before": _utc(asked.created_before)}
    return JobSearch(tenant, asked.model_copy(update=times).wanted(), chosen=visitor.tenant is None)


JobSearchDep = Annotated[JobSearch, Depends(read_search)]


def _seen(visitor: Visitor, tenant: str | None) -> str | None:
    if tenant is not None and not visitor.sees(tenant):
        raise NotFoundError
    return tenant if visitor.tenant is None else visitor.tenant


def tags_of(written: Sequence[str]) -> dict[str, str]:
    """Tags that were written as `name:value`, or as name=value where there is no colon.

    Raises:
        InvalidRequestError: one has no value, or two.
    """
    tags: dict[str, str] = {}
    for each in written:
        name, sign, value = each.partition(":" if ":" in each else "=")
        if not sign or tags.setdefault(name.strip(), value.strip()) != value.strip():
            raise InvalidRequestError("Give a tag as `name:value`, and each name once.", pointer="/tag")
    return tags


def _all(values: Sequence[str]) -> list[str]:
    return [value.strip() for value in values if value.strip()]


def _time(written: str) -> str | None:
    """A time as the API takes it: browsers send the one of a field without its zone, which is UTC."""
    value = written.strip()
    if _DAY.fullmatch(value):
        return f"{value}T00:00:00Z"
    return f"{value}Z" if _LOCAL.fullmatch(value) else value or None


def _utc(time: datetime | None) -> datetime | None:
    try:
        return None if time is None else time.astimezone(UTC)
    except OverflowError:
        raise InvalidRequestError("There is no such time in UTC.", pointer="/created_after") from None
