"""The parameters of a query: what an operation does not know is refused, not ignored."""

from collections.abc import Iterator

from fastapi import Request
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import ParamTypes
from fastapi.routing import APIRoute

from api.errors import MAX_ECHO
from jobs.errors import InvalidRequestError


async def refuse_unknown_query(request: Request) -> None:
    """Refuse a query with parameters that the operation does not have.

    A misspelt filter that is ignored answers with everything.

    Raises:
        InvalidRequestError: it has some.
    """
    route = request.scope["route"]
    if not request.scope["query_string"] or not isinstance(route, APIRoute):
        return
    known = set(_names(route))
    unknown = next((name for name in request.query_params if name not in known), None)
    if unknown is not None:
        there_are = f"there are {', '.join(sorted(known))}" if known else "this takes none"
        raise InvalidRequestError(
            f"There is no parameter {unknown[:MAX_ECHO]!r} here: {there_are}.",
            pointer=f"/{unknown.replace('~', '~0').replace('/', '~1')[:MAX_ECHO]}",
        )


def _names(route: APIRoute) -> Iterator[str]:
    for field in get_flat_params(route.dependant):
        if getattr(field.field_info, "in_", None) is ParamTypes.query:
            yield field.alias
    for parameter in (route.openapi_extra or {}).get("parameters", ()):
        if parameter["in"] == "query":
            yield parameter["name"]
