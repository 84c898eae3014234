"""Every error as `application/problem+json` (RFC 9457); the only table of status codes."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar

import orjson
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from psycopg.errors import LockNotAvailable
from pydantic import ValidationError
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from api.methods import allowed
from api.schemas.labels import FORMS
from engine.errors import EngineError
from jobs.errors import DomainError, InvalidRequestError
from pictures.errors import PictureError

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 2
QUOTA_RETRY_SECONDS = 10
"""A tenant's own work has to be done first, which takes longer than a database that is away."""
MAX_FAULTS = 100
MAX_ECHO = 200
"""Of what a client sent, an unknown field's name for one, no more than so many characters come back."""
NOT_IN_INPUT = {"logit_lens", "embedding", "rescore", "query", "path", "header"}
NO_PLACE = {*FORMS, "[key]"}
"""What pydantic puts into a location that is no place in the input: forms, and that a name is at fault."""


class MalformedBodyError(InvalidRequestError):
    """The body is not valid JSON."""

    code = "malformed-body"


class BodyTooLargeError(DomainError):
    """The body is larger than this service takes."""

    code = "body-too-large"


class BodyStalledError(DomainError):
    """Nothing of the body came for too long; nothing was accepted, send it again."""

    code = "body-stalled"
    headers: ClassVar[Mapping[str, str]] = {"Connection": "close"}
    """What is left of the body is not waited for."""


class UnsupportedMediaTypeError(DomainError):
    """Send `application/json`, or `multipart/form-data` with a part `job` and parts `images`."""

    code = "unsupported-media-type"


class RateLimitedError(DomainError):
    """Too many requests came within a minute."""

    code = "rate-limited"

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        """Keep when it is worth trying again."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NotAcceptableError(DomainError):
    """This does not come in any form that `Accept` names."""

    code = "not-acceptable"


class PartNotReadyError(DomainError):
    """The copy that parts are taken from is still being made: ask again, or fetch the whole file."""

    code = "part-not-ready"


class TooManyStreamsError(DomainError):
    """As many clients follow a job here already as may: poll it instead, or try again soon."""

    code = "too-many-streams"


class TooManyExportsError(DomainError):
    """This key fetches as many files of results already as it may at a time."""

    code = "too-many-exports"


class ExportsBusyError(DomainError):
    """As many files of results are fetched here already as may at a time; try again soon."""

    code = "exports-busy"


class RangeNotSatisfiableError(DomainError):
    """Nothing of the range is there."""

    code = "range-not-satisfiable"

    def __init__(self, size_bytes: int) -> None:
        """Say how large the whole is."""
        super().__init__(f"The whole has {size_bytes} bytes, and none in this range.")
        self.headers = {"Content-Range": f"bytes */{size_bytes}"}


class BusyError(DomainError):
    """Other requests hold what this one needs for too long; nothing was changed, try again soon."""

    code = "busy"


class UploadsBusyError(DomainError):
    """So much is being sent at this moment, by all or by you, that no more is taken; try again soon."""

    code = "uploads-busy"


class RefusedImagesError(Exception):
    """Pictures of an upload that cannot be taken; nothing of it was kept."""

    def __init__(self, faults: Sequence[tuple[str, PictureError]]) -> None:
        """Keep where each picture stands in the request, and what is wrong with it."""
        super().__init__(faults)
        self.faults = faults


class UnavailableError(DomainError):
    """The database does not answer. Try again soon; a job with an Idempotency-Key is never made twice."""

    code = "unavailable"


class UnreadyError(UnavailableError):
    """The service is not ready yet."""

    code = "unready"


# Every code that is not listed is a request that was understood and refused: 422.
STATUS: Mapping[str, HTTPStatus] = {
    "malformed-body": HTTPStatus.BAD_REQUEST,
    "unauthenticated": HTTPStatus.UNAUTHORIZED,
    "invalid-key": HTTPStatus.UNAUTHORIZED,
    "insufficient-scope": HTTPStatus.FORBIDDEN,
    "not-found": HTTPStatus.NOT_FOUND,
    "image-in-use": HTTPStatus.CONFLICT,
    "already-ended": HTTPStatus.CONFLICT,
    "not-ended": HTTPStatus.CONFLICT,
    "empty-set": HTTPStatus.CONFLICT,
    "not-sealed": HTTPStatus.CONFLICT,
    "not-over-set": HTTPStatus.CONFLICT,
    "nothing-to-summarise": HTTPStatus.CONFLICT,
    "not-indexed": HTTPStatus.CONFLICT,
    "last-admin-key": HTTPStatus.CONFLICT,
    "account-exists": HTTPStatus.CONFLICT,
    "last-admin": HTTPStatus.CONFLICT,
    "sign-in-refused": HTTPStatus.UNPROCESSABLE_ENTITY,
    "signed-out": HTTPStatus.UNAUTHORIZED,
    "role-forbids": HTTPStatus.FORBIDDEN,
    "foreign-origin": HTTPStatus.FORBIDDEN,
    "embeddings-not-kept": HTTPStatus.CONFLICT,
    "nothing-to-retry": HTTPStatus.CONFLICT,
    "already-retried": HTTPStatus.CONFLICT,
    "count-differs": HTTPStatus.CONFLICT,
    "worker-not-online": HTTPStatus.CONFLICT,
    "too-many-actions": HTTPStatus.TOO_MANY_REQUESTS,
    "quota-exceeded": HTTPStatus.TOO_MANY_REQUESTS,
    "rate-limited": HTTPStatus.TOO_MANY_REQUESTS,
    "too-many-exports": HTTPStatus.TOO_MANY_REQUESTS,
    "no-result-yet": HTTPStatus.NOT_FOUND,
    "item-dropped": HTTPStatus.NOT_FOUND,
    "no-request": HTTPStatus.NOT_FOUND,
    "no-maps": HTTPStatus.NOT_FOUND,
    "no-output": HTTPStatus.NOT_FOUND,
    "idempotency-key-in-use": HTTPStatus.CONFLICT,
    "idempotency-key-spent": HTTPStatus.GONE,
    "job-deleted": HTTPStatus.GONE,
    "blob-missing": HTTPStatus.GONE,
    "numbers-missing": HTTPStatus.GONE,
    "results-expired": HTTPStatus.GONE,
    "method-not-allowed": HTTPStatus.METHOD_NOT_ALLOWED,
    "not-acceptable": HTTPStatus.NOT_ACCEPTABLE,
    "range-not-satisfiable": HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
    "body-stalled": HTTPStatus.REQUEST_TIMEOUT,
    "body-too-large": HTTPStatus.CONTENT_TOO_LARGE
    if hasattr(HTTPStatus, "CONTENT_TOO_LARGE")
    else HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "unsupported-media-type": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "unavailable": HTTPStatus.SERVICE_UNAVAILABLE,
    "busy": HTTPStatus.SERVICE_UNAVAILABLE,
    "queue-full": HTTPStatus.SERVICE_UNAVAILABLE,
    "uploads-busy": HTTPStatus.SERVICE_UNAVAILABLE,
    "blob-store-full": HTTPStatus.SERVICE_UNAVAILABLE,
    "blob-store-missing": HTTPStatus.SERVICE_UNAVAILABLE,
    "unready": HTTPStatus.SERVICE_UNAVAILABLE,
    "too-many-streams": HTTPStatus.SERVICE_UNAVAILABLE,
    "exports-busy": HTTPStatus.SERVICE_UNAVAILABLE,
    "part-not-ready": HTTPStatus.SERVICE_UNAVAILABLE,
    "internal": HTTPStatus.INTERNAL_SERVER_ERROR,
}
HEADERS: Mapping[HTTPStatus, Mapping[str, str]] = {
    HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": 'Bearer realm="lensqueue"'},
    HTTPStatus.TOO_MANY_REQUESTS: {"Retry-After": str(QUOTA_RETRY_SECONDS)},
    HTTPStatus.SERVICE_UNAVAILABLE: {"Retry-After": str(RETRY_SECONDS)},
}


def install(app: FastAPI) -> None:
    """Render every error of the application as a problem."""
    app.add_exception_handler(DomainError, _refused)
    app.add_exception_handler(RateLimitedError, _rate_limited)
    app.add_exception_handler(EngineError, _refused)
    app.add_exception_handler(PictureError, _refused)
    app.add_exception_handler(RefusedImagesError, _refused_images)
    app.add_exception_handler(ValidationError, _invalid_body)
    app.add_exception_handler(RequestValidationError, _invalid_parameters)
    app.add_exception_handler(HTTPException, _http)
    for lost in (OperationalError, InterfaceError, PoolTimeoutError):
        app.add_exception_handler(lost, _database_lost)
    app.add_exception_handler(ClientDisconnect, _gone)


def problem(
    request: Request,
    code: str,
    detail: str,
    *,
    errors: Sequence[Mapping[str, str]] = (),
    headers: Mapping[str, str] | None = None,
    status: HTTPStatus | None = None,
) -> Response:
    """A problem response; its status follows from the code, unless given."""
    status = status or STATUS.get(code, HTTPStatus.UNPROCESSABLE_ENTITY)
    body: dict[str, Any] = {
        "type": f"urn:lensqueue:problem:{code}",
        "title": code.replace("-", " ").capitalize(),
        "status": status.value,
        "detail": detail,
        "code": code,
        "request_id": getattr(request.state, "request_id", None),
    }
    if errors:
        body["errors"] = list(errors)
    return Response(
        orjson.dumps(body),
        status_code=status,
        media_type=MEDIA_TYPE,
        headers={**HEADERS.get(status, {}), **(headers or {})},
    )


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, DomainError | EngineError | PictureError)
    message = str(error)
    errors = [{"pointer": pointer, "message": message} for pointer in getattr(error, "pointers", ())]
    return problem(request, error.code, message, errors=errors, headers=getattr(error, "headers", None))


async def _rate_limited(request: Request, error: Exception) -> Response:
    assert isinstance(error, RateLimitedError)
    headers = {"Retry-After": str(error.retry_after_s)}
    return problem(request, error.code, error.message, headers=headers)


async def _refused_images(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedImagesError)
    errors = [
        {"pointer": pointer, "code": fault.code, "message": str(fault)}
        for pointer, fault in error.faults[:MAX_FAULTS]
    ]
    # one problem has one code: the first picture's; every other fault brings its own
    return problem(request, errors[0]["code"], errors[0]["message"], errors=errors)


async def _invalid_body(request: Request, error: Exception) -> Response:
    assert isinstance(error, ValidationError)
    # never the input itself: it may be huge, secret, or not even representable
    return _invalid(request, error.errors(include_url=False, include_context=False, include_input=False))


async def _invalid_parameters(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _invalid(request, error.errors())


def _invalid(request: Request, faults: Sequence[Mapping[str, Any]]) -> Response:
    errors = [
        {"pointer": _pointer(fault["loc"])[:MAX_ECHO], "message": _message(fault)[:MAX_ECHO]}
        for fault in faults[:MAX_FAULTS]
    ]
    first = errors[0]
    detail = f"{first['pointer'] or 'The request'}: {first['message']}"
    return problem(request, InvalidRequestError.code, detail, errors=errors)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    code = status.phrase.lower().replace(" ", "-")
    detail, headers = str(error.detail), error.headers
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        methods = ", ".join(allowed(request.app, request.url.path))
        detail, headers = f"This takes {methods}.", {"Allow": methods}
    return problem(request, code, detail, headers=headers, status=status)


async def _database_lost(request: Request, error: Exception) -> Response:
    if isinstance(getattr(error, "orig", None), LockNotAvailable):
        return await _refused(request, BusyError())
    log.error("database.lost", error=str(error))
    return await _refused(request, UnavailableError())


async def _gone(request: Request, error: Exception) -> Response:
    # nobody hears this: the client went away in the middle of its upload
    return problem(request, MalformedBodyError.code, "The body ended early.")


def internal(request: Request, error: Exception) -> Response:
    """The answer to a fault of ours; everything about it is in the log only."""
    log.error("request.failed", exc_info=error)
    return problem(request, "internal", "Something went wrong here; the log has it under this request's id.")


def _message(fault: Mapping[str, Any]) -> str:
    if fault["type"] in {"union_tag_not_found", "union_tag_invalid"}:
        return "Give `type`: logit_lens, embedding or rescore."
    if fault["type"] in {"model_type", "model_attributes_type", "dict_type"}:
        return "This must be an object."
    if fault["type"] == "extra_forbidden":
        return "There is no such field."
    return str(fault["msg"]).removeprefix("Value error, ")


def _pointer(location: Sequence[str | int]) -> str:
    # what stands first in pydantic's location is no part of the input: the union's tag, or "query"
    parts = location[1:] if location and location[0] in NOT_IN_INPUT else location
    parts = [part for part in parts if part not in NO_PLACE]
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in parts)
