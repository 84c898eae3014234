"""Image sets: what is in them, what could not be read, and the jobs over them."""

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from api.dashboard.addresses import PAGE, address, cut_page
from api.dashboard.forms import read_form
from api.dashboard.pages import go, page
from api.dashboard.visitor import Acting, Looking, Visitor
from api.deps import ReadingDep, ServicesDep
from api.schemas import ids
from api.schemas.image_sets import VERSIONS_SHOWN
from api.schemas.pages import decode_token
from api.schemas.results import decode_token as decode_index
from api.schemas.results import encode_token as encode_index
from api.writing import writing
from jobs import audit, image_sets, sealing
from jobs.errors import NotFoundError
from models.image_set import ImageSet, ImageSetVersion

router = APIRouter()

HERE: Final = "/admin/sets"
JOBS_SHOWN: Final = 20


@router.get("/sets")
async def list_sets(
    request: Request, visitor: Looking, session: ReadingDep, page_token: str | None = None
) -> Response:
    """All sets that the visitor sees, newest first."""
    return page(request, "sets.html", visitor, **await _listed(session, visitor, page_token))


@router.get("/sets/rows")
async def list_set_rows(
    request: Request, visitor: Looking, session: ReadingDep, page_token: str | None = None
) -> Response:
    """The table alone, when something has changed."""
    return page(request, "sets_rows.html", visitor, **await _listed(session, visitor, page_token))


@router.get("/sets/{set_id}")
async def show_set(
    request: Request,
    set_id: str,
    visitor: Looking,
    session: ReadingDep,
    version: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
    show: Literal["failed"] | None = None,
    page_token: str | None = None,
) -> Response:
    """A set with its versions, the jobs over them, and the items of one of them."""
    facts = await _whole(session, visitor, set_id)
    chosen = await _choose(session, facts["row"], facts["versions"], version)
    rows = (
        await session.scalars(
            image_sets.items_page(
                chosen.id, after=decode_index(page_token), limit=PAGE, failed=show is not None
            )
        )
    ).all()
    token = encode_index(rows[PAGE - 1].index) if len(rows) > PAGE else None
    here = f"{HERE}/{ids.set_id(facts['row'].id)}"
    return page(
        request,
        "set.html",
        visitor,
        **facts,
        chosen=chosen,
        items=rows[:PAGE],
        show=show,
        is_first=page_token is None,
        first_url=address(here, version=chosen.number, show=show) + "#items",
        next_url=token and address(here, version=chosen.number, show=show, page_token=token) + "#items",
    )


@router.get("/sets/{set_id}/news")
async def show_set_news(request: Request, set_id: str, visitor: Looking, session: ReadingDep) -> Response:
    """What of a set changes while it is looked at."""
    return page(request, "set_news.html", visitor, **await _whole(session, visitor, set_id))


@router.post("/sets/{set_id}/seal")
async def seal_set(request: Request, set_id: str, visitor: Acting, services: ServicesDep) -> Response:
    """Seal the open version of a set."""
    form = await read_form(request)
    async with services.reading() as reading:
        row = await _find(reading, visitor, set_id)

    def seal(session: Session) -> None:
        version = sealing.seal(session, row.tenant, row.id)
        target = f"{ids.set_id(row.id)} version {version.number}"
        audit.note(session, visitor.actor, "set.sealed", target, tenant=row.tenant, reason=form.reason())

    async with writing(services, services.slow, row.tenant) as session:
        await session.run_sync(seal)
    return go(f"{HERE}/{set_id}", "set-sealed")


@router.post("/sets/{set_id}/delete")
async def delete_set(request: Request, set_id: str, visitor: Acting, services: ServicesDep) -> Response:
    """Delete a set with all its versions."""
    form = await read_form(request)
    async with services.reading() as reading:
        row = await _find(reading, visitor, set_id)

    def delete(session: Session) -> None:
        image_sets.delete_set(session, row.tenant, row.id)
        target = ids.set_id(row.id)
        audit.note(session, visitor.actor, "set.deleted", target, tenant=row.tenant, reason=form.reason())

    async with writing(services, services.slow, row.tenant) as session:
        await session.run_sync(delete)
    return go(HERE, "set-deleted")


async def _listed(session: AsyncSession, visitor: Visitor, page_token: str | None) -> dict[str, Any]:
    before = decode_token(page_token)
    found = await session.scalars(image_sets.sets_page(visitor.tenant, before=before, limit=PAGE))
    rows, pager = cut_page(found.all(), page_token, HERE)
    last = await session.scalars(image_sets.last_versions([row.id for row in rows]))
    return {
        "ids": ids,
        "rows": rows,
        "last": {version.set_id: version for version in last},
        "rows_url": address(f"{HERE}/rows", page_token=page_token),
        **pager,
    }


async def _whole(session: AsyncSession, visitor: Visitor, wire_id: str) -> dict[str, Any]:
    row = await _find(session, visitor, wire_id)
    versions = (await session.scalars(image_sets.versions_of(row.id, VERSIONS_SHOWN))).all()
    jobs = await session.scalars(image_sets.jobs_over([version.id for version in versions], JOBS_SHOWN))
    return {
        "ids": ids,
        "row": row,
        "versions": versions,
        "numbers": {version.id: version.number for version in versions},
        "jobs": jobs.all(),
        "jobs_shown": JOBS_SHOWN,
        "versions_shown": VERSIONS_SHOWN,
    }


async def _choose(
    session: AsyncSession, row: ImageSet, versions: list[ImageSetVersion], number: int | None
) -> ImageSetVersion:
    """The version of a number, or else the last one."""
    if number is None:
        return versions[0]
    found = await session.scalar(image_sets.numbered_version(row.tenant, row.id, number))
    if found is None:
        raise NotFoundError
    return found


async def _find(session: AsyncSession, visitor: Visitor, wire_id: str) -> ImageSet:
    row = await session.scalar(image_sets.set_of(visitor.tenant, ids.parse_set_id(wire_id)))
    if row is None:
        raise NotFoundError
    return row
