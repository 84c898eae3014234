"""Refusals as pages: what went wrong, by its code, and what to do next."""

from http import HTTPStatus
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from pydantic import ValidationError
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from api.dashboard.pages import page
from api.errors import STATUS, MalformedBodyError, UnavailableError
from engine.errors import EngineError
from jobs.errors import DomainError, InvalidRequestError, NotFoundError, SignedOutError
from pictures.errors import PictureError

SIGN_IN = "/admin/sign-in"


def install(app: FastAPI) -> None:
    """Render every error of the dashboard as a page."""
    app.add_exception_handler(SignedOutError, _signed_out)
    for refusal in (DomainError, EngineError, PictureError):
        app.add_exception_handler(refusal, _refused)
    for invalid in (RequestValidationError, ValidationError):
        app.add_exception_handler(invalid, _invalid)
    app.add_exception_handler(HTTPException, _http)
    for lost in (OperationalError, InterfaceError, PoolTimeoutError):
        app.add_exception_handler(lost, _database_lost)
    app.add_exception_handler(ClientDisconnect, _gone)


def failure(request: Request, code: str, message: str, status: int | None = None) -> Response:
    """A page that says what was refused; its status follows from the code."""
    known = status or STATUS.get(code, HTTPStatus.UNPROCESSABLE_ENTITY)
    return page(request, "failure.html", None, status=int(known), code=code, message=message)


async def _signed_out(request: Request, error: Exception) -> Response:
    assert isinstance(error, SignedOutError)
    if request.method != "GET" or "HX-Request" in request.headers:
        answer = failure(request, error.code, error.message)
        # a part of a page that is still open: all of it goes to where one signs in
        answer.headers["HX-Redirect"] = SIGN_IN
        return answer
    asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(f"{SIGN_IN}?next={quote(asked, safe='/')}", status_code=303)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, DomainError | EngineError | PictureError)
    return failure(request, error.code, str(error))


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError | ValidationError)
    fault = error.errors()[0]
    where = " ".join(str(part) for part in fault["loc"] if part not in {"query", "body", "path"})
    return failure(request, InvalidRequestError.code, f"{where[:100]}: {fault['msg']}"[:500])


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.NOT_FOUND:
        return failure(request, NotFoundError.code, "There is no such page.", HTTPStatus.NOT_FOUND)
    return failure(request, "refused", str(error.detail), error.status_code)


async def _gone(request: Request, error: Exception) -> Response:
    # nobody reads this: the browser went away in the middle of its form
    return failure(request, MalformedBodyError.code, "The form ended early.")


async def _database_lost(request: Request, error: Exception) -> Response:
    lost = UnavailableError()
    return failure(request, lost.code, lost.message)
