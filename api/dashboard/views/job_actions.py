"""Doing something to all jobs that a filter finds, not to those of a page alone."""

import re
import uuid
from typing import Final

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session

from api.dashboard.forms import read_form
from api.dashboard.job_search import JobSearch, JobSearchDep
from api.dashboard.once import new_once, once_of
from api.dashboard.pages import go, page
from api.dashboard.visitor import Acting, Looking, Visitor
from api.deps import ReadingDep, Services, ServicesDep
from api.errors import STATUS
from api.once import in_turn
from api.schemas.ids import action_id, job_id, parse_action_id
from jobs import actions, audit
from jobs.actions import MAX_JOBS, Wish
from jobs.errors import CountDiffersError, EmptyFilterError, InvalidRequestError, NotFoundError
from jobs.idempotency import Once, make_once
from models.job_action import JobAction
from models.types import ActionState, ActionVerb, Made

router = APIRouter()

MAX_REASON: Final = 1_000
_TYPED: Final = re.compile(r"([a-z]+)\s+([0-9][0-9,]{0,10})")


class NotConfirmedError(InvalidRequestError):
    """What was typed does not confirm it."""


@router.get("/jobs/act")
async def show_confirmation(
    request: Request, verb: ActionVerb, visitor: Acting, services: ServicesDep, search: JobSearchDep
) -> Response:
    """What would be done, to how many jobs; and what to type so that it is."""
    return await _confirmation(request, services, visitor, verb, search)


@router.post("/jobs/act")
async def act(
    request: Request, verb: ActionVerb, visitor: Acting, services: ServicesDep, search: JobSearchDep
) -> Response:
    """Accept it, if it is confirmed, and about as many jobs as were seen; sent twice, it is done once."""
    form = await read_form(request)
    # not of the reason and the count: for these it is not done once more
    once = once_of(form, Made.ACTION, request.url.path, search.query(verb=verb))
    reason = form.text("reason", required=False)
    tenant = _tenant_of(search)
    try:
        seen = _confirmed(verb, form.text("typed", required=False), reason)
        wish = Wish(verb, search.wanted, seen, reason or None)
        action = await in_turn(lambda: _accept(services, visitor, tenant, wish, once))
    except (NotConfirmedError, CountDiffersError) as error:
        return await _confirmation(request, services, visitor, verb, search, error, reason)
    return go(f"/admin/actions/{action_id(action.id)}", "action-accepted")


@router.get("/actions/{wire_id}")
async def show_action(request: Request, wire_id: str, visitor: Looking, session: ReadingDep) -> Response:
    """An action, and how far it is."""
    return await _action(request, "job_action.html", wire_id, visitor, session)


@router.get("/actions/{wire_id}/progress")
async def show_progress(request: Request, wire_id: str, visitor: Looking, session: ReadingDep) -> Response:
    """What of it changes."""
    return await _action(request, "job_action_progress.html", wire_id, visitor, session)


async def _action(
    request: Request, template: str, wire_id: str, visitor: Visitor, session: ReadingDep
) -> Response:
    action = await session.scalar(actions.action_of(visitor.tenant, parse_action_id(wire_id)))
    if action is None:
        raise NotFoundError
    failed_at = action.error and action.error.get("job_id")
    return page(
        request,
        template,
        visitor,
        action=action,
        wire_id=wire_id,
        running=action.state == ActionState.RUNNING,
        # as other ids are written
        failed_at=failed_at and f"job_{failed_at.replace('-', '')}",
        job_id=job_id,
    )


async def _confirmation(
    request: Request,
    services: Services,
    visitor: Visitor,
    verb: ActionVerb,
    search: JobSearch,
    error: NotConfirmedError | CountDiffersError | None = None,
    reason: str = "",
) -> Response:
    tenant = _tenant_of(search)
    async with services.sessions() as session:
        found = await session.run_sync(actions.count, tenant, search.wanted)
    return page(
        request,
        "job_act.html",
        visitor,
        status=200 if error is None else int(STATUS.get(error.code, 422)),
        verb=verb,
        search=search,
        tenant=tenant,
        found=found,
        most=MAX_JOBS,
        error=error and error.message,
        reason=reason,
        max_reason=MAX_REASON,
        once=new_once(),
    )


def _tenant_of(search: JobSearch) -> str:
    """Whose jobs it is about.

    Raises:
        EmptyFilterError: nothing says which jobs.
        InvalidRequestError: it would be those of all tenants.
    """
    if not search.is_narrow:
        raise EmptyFilterError(pointer="/filter")
    if search.tenant is None:
        raise InvalidRequestError(
            "Name a tenant in the filter: an action is about the jobs of one.", pointer="/tenant"
        )
    return search.tenant


def _confirmed(verb: ActionVerb, typed: str, reason: str) -> int:
    """How many jobs whoever typed this has seen: `retry 120`.

    Raises:
        NotConfirmedError: they typed something else, or too much of a reason.
    """
    if len(reason) > MAX_REASON:
        raise NotConfirmedError(f"A reason has {MAX_REASON} characters at most.", pointer="/reason")
    match = _TYPED.fullmatch(typed.lower())
    if match is None or match[1] != verb:
        raise NotConfirmedError("Type the word and the number as they stand there.", pointer="/typed")
    return int(match[2].replace(",", ""))


async def _accept(services: Services, visitor: Visitor, tenant: str, wish: Wish, once: Once) -> JobAction:
    async with services.sessions.begin() as session:
        action, _ = await session.run_sync(
            lambda held: make_once(
                held,
                tenant,
                once,
                lambda new_id: _make(held, visitor, tenant, wish, new_id),
                lambda known: held.scalar(actions.action_of(tenant, known)),
            )
        )
    return action


def _make(session: Session, visitor: Visitor, tenant: str, wish: Wish, new_id: uuid.UUID | None) -> JobAction:
    action = actions.accept(session, tenant, wish, action_id=new_id)
    audit.note(
        session,
        visitor.actor,
        actions.AUDITED[wish.verb],
        action_id(action.id),
        tenant=tenant,
        reason=wish.reason,
        filter=action.filter,
        matched=action.matched,
    )
    return action
