"""The API's document as a page to read and try, with everything that it needs from here."""

from pathlib import Path
from typing import Final

from fastapi import APIRouter, Depends
from fastapi.responses import FileResponse, RedirectResponse

from api.parameters import refuse_unknown_query
from jobs.errors import NotFoundError

router = APIRouter(include_in_schema=False, dependencies=[Depends(refuse_unknown_query)])

READ: Final = ["GET", "HEAD"]
FOLDER: Final = Path(__file__).resolve().parents[1] / "static" / "docs"
MEDIA_TYPES: Final = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "start.js": "text/javascript",
    "LICENSE": "text/plain",
    "NOTICE": "text/plain",
    "swagger-ui-bundle.js.LICENSE.txt": "text/plain",
}
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " img-src 'self' data: blob:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Nothing comes from elsewhere and nothing goes there: a key is typed into this page."""


@router.api_route("/", methods=READ)
async def read_root() -> RedirectResponse:
    """To the page: whoever opens the service in a browser finds what it does."""
    return RedirectResponse("/docs")


@router.api_route("/docs", methods=READ)
async def read_docs() -> FileResponse:
    """The page."""
    return FileResponse(FOLDER / "index.html", media_type="text/html", headers=HEADERS)


@router.api_route("/docs/{name}", methods=READ)
async def read_docs_file(name: str) -> FileResponse:
    """A file that the page needs."""
    if name not in MEDIA_TYPES:
        raise NotFoundError
    return FileResponse(FOLDER / name, media_type=MEDIA_TYPES[name], headers=HEADERS)
