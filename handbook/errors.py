"""Every code that a problem or a failed item may have, from what carries it."""

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from types import ModuleType
from typing import Final

import api
import jobs
from api.errors import STATUS
from engine.errors import EngineError
from handbook.docstrings import in_a_line, of_class, row
from handbook.item_errors import said_in
from jobs import deadlines, recovery
from jobs.errors import DomainError
from pictures.errors import PictureError
from worker.errors import DecoderCrashedError, ImageTooCostlyError, ImageTooSlowError

HEAD: Final = """\
# Errors

An error is a problem (RFC 9457), `application/problem+json`. Go by its `code`, which stays; `detail` says
what to do in this case, and `errors` where in the request the faults lie. An item that failed has an
`error` of its own, with a `code` and a `message`, and no status: of a picture, of the engine, of those at
the end, or one of a request where that is what went wrong, `blob-missing` for one. [When something
fails](../how-to/when-something-fails.md) says what to do.
"""
BY_CLOCK: Final = (
    deadlines.UNSTARTED,
    deadlines.TIMED_OUT,
    recovery.LOST,
    recovery.FAILED,
    recovery.CRASHED,
)
BY_DECODERS: Final = (DecoderCrashedError, ImageTooSlowError, ImageTooCostlyError)
OF_ROUTES: Final = {
    "internal": "Something went wrong in the service; its log has it under the `request_id`.",
    "method-not-allowed": "The path does not take this method; `Allow` says which it takes.",
}
Root = type[DomainError] | type[EngineError] | type[PictureError]


def page() -> str:
    """The page, whole."""
    for package in (api, jobs):
        _import_all(package)
    of_requests = _codes(DomainError) | OF_ROUTES
    unknown = STATUS.keys() - of_requests.keys()
    assert not unknown, f"codes with a status that nothing carries: {unknown}"
    tables = {
        "Requests": _with_status(of_requests),
        "The engine: models, labels, arguments": _with_status(_codes(EngineError)),
        "Pictures": _with_status(_codes(PictureError)),
        "Items alone": _without_status(_of_items()),
        "Items of an ingestion": _without_status(said_in("jobs")),
    }
    return HEAD + "".join(f"\n## {title}\n\n{_table(rows)}" for title, rows in tables.items())


def _table(rows: Iterator[tuple[str, str, str]]) -> str:
    lines = [row(f"`{code}`", status, text) for code, status, text in rows]
    return "\n".join([row("code", "status", "what it says"), "|---|---|---|", *lines]) + "\n"


def _with_status(said: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    for code in sorted(said):
        status = STATUS.get(code, HTTPStatus.UNPROCESSABLE_ENTITY)
        yield code, str(status.value), said[code]


def _without_status(said: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    return ((code, "", said[code]) for code in sorted(said))


def _of_items() -> dict[str, str]:
    said = {error.code: in_a_line(of_class(error)) for error in BY_DECODERS}
    by_clock = {error["code"]: in_a_line(error["message"]) for error in BY_CLOCK}
    for code, text in (*by_clock.items(), *said_in("worker").items()):
        said[code] = f"{said[code]} Or: {text}" if code in said else text
    return said


def _codes(root: Root) -> dict[str, str]:
    said: dict[str, str] = {}
    for each in _family(root):
        # of classes with one code, the one that gave it comes first
        if each not in BY_DECODERS:
            said.setdefault(each.code, in_a_line(of_class(each)))
    return said


def _family(root: Root) -> Iterator[Root]:
    yield root
    for child in root.__subclasses__():
        yield from _family(child)


def _import_all(package: ModuleType) -> None:
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(found.name)
