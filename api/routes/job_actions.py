"""Actions on many jobs at once."""

import uuid
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.orm import Session

from api import bodies
from api.deps import Caller, Reader, ReadingDep, Services, ServicesDep, Submitter
from api.once import IDEMPOTENCY_KEY, REPLAYED, in_turn, once_of
from api.schemas import job_actions as schema
from api.schemas.ids import action_id as wire_action_id
from api.schemas.ids import parse_action_id
from api.schemas.listing import PageToken, next_link
from api.schemas.pages import decode_token
from jobs import actions, audit
from jobs.actions import Wish
from jobs.errors import NotFoundError
from jobs.idempotency import Once, make_once
from models.job_action import JobAction
from models.types import Made

router = APIRouter(prefix="/v1/job-actions", tags=["job actions"])

MAX_PAGE = 200
BODY: dict[str, Any] = {
    "parameters": [IDEMPOTENCY_KEY],
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ActionRequest"}}},
    },
}


@router.post(
    "",
    status_code=202,
    summary="Act on many jobs",
    response_model=schema.ActionView,
    openapi_extra=BODY,
    responses={
        200: {"model": schema.ActionCount, "description": "The count of a dry run; nothing is done."},
        202: {"description": "It is stored, and done in the background. `Location` names it."},
        409: {"description": "The filter finds another number of jobs by now (`count-differs`)."},
        429: {
            "description": "You have sent too much (`rate-limited`), or too many actions of yours run already"
            " (`too-many-actions`)."
        },
    },
)
async def create_action(
    request: Request, response: Response, caller: Submitter, services: ServicesDep
) -> schema.ActionView | Response:
    """Cancel, try again or delete all jobs that a filter finds; an empty one is refused (`empty-filter`).

    Jobs that cannot be acted upon when it comes to them are skipped, and counted.
    """
    asked = await bodies.read_small(request, schema.ActionRequest)
    once = once_of(request, Made.ACTION, asked)
    if asked.dry_run:
        async with services.sessions() as session:
            found = await session.run_sync(actions.count, caller.tenant, asked.filter.wanted())
        return Response(schema.ActionCount(count=found).model_dump_json(), media_type="application/json")
    wish = Wish(asked.action, asked.filter.wanted(), asked.expected_count or 0, asked.reason)
    action, new = await in_turn(lambda: _accept(services, caller, wish, once))
    if not new:
        response.headers.update(REPLAYED)
    shown = schema.view(action)
    response.status_code = HTTPStatus.ACCEPTED
    response.headers["Location"] = f"/v1/job-actions/{shown.id}"
    return shown


@router.get("", summary="List actions")
async def list_actions(
    request: Request,
    response: Response,
    caller: Reader,
    session: ReadingDep,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
    page_token: PageToken = None,
) -> schema.ActionsPage:
    """Your actions, newest first."""
    rows = await session.scalars(
        actions.actions_page(caller.tenant, before=decode_token(page_token), limit=limit)
    )
    page = schema.page(rows.all(), limit)
    if page.next_page_token is not None:
        query = request.query_params.multi_items()
        response.headers.update(next_link(request.url.path, query, page.next_page_token))
    return page


@router.get(
    "/{action_id}", summary="Look at an action", responses={404: {"description": "There is no such action."}}
)
async def read_action(action_id: str, caller: Reader, session: ReadingDep) -> schema.ActionView:
    """How far an action is: every job that it found is done or skipped in the end."""
    action = await session.scalar(actions.action_of(caller.tenant, parse_action_id(action_id)))
    if action is None:
        raise NotFoundError
    return schema.view(action)


def _make(session: Session, caller: Caller, wish: Wish, new_id: uuid.UUID | None) -> JobAction:
    action = actions.accept(session, caller.tenant, wish, key_id=caller.key_id, action_id=new_id)
    audit.note(
        session,
        caller.actor,
        actions.AUDITED[wish.verb],
        wire_action_id(action.id),
        tenant=caller.tenant,
        reason=wish.reason,
        filter=action.filter,
        matched=action.matched,
    )
    return action


async def _accept(
    services: Services, caller: Caller, wish: Wish, once: Once | None
) -> tuple[JobAction, bool]:
    async with services.sessions.begin() as session:
        return await session.run_sync(
            lambda held: make_once(
                held,
                caller.tenant,
                once,
                lambda new_id: _make(held, caller, wish, new_id),
                lambda known: held.scalar(actions.action_of(caller.tenant, known)),
            )
        )
