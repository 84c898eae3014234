"""The dashboard's own files: style, scripts, and the libraries that are carried with it."""

from typing import Final

from fastapi import APIRouter
from fastapi.responses import FileResponse

from api.dashboard.pages import FOLDER
from jobs.errors import NotFoundError

router = APIRouter()

FILES: Final = FOLDER.parent / "static"
MEDIA_TYPES: Final = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".LICENSE": "text/plain",
}
NAMES: Final = {path.name: MEDIA_TYPES[path.suffix] for path in FILES.iterdir() if path.suffix in MEDIA_TYPES}


@router.get("/static/{name}")
async def read_static(name: str) -> FileResponse:
    """A file; it changes with a version of the service, and browsers ask whether it has."""
    if name not in NAMES:
        raise NotFoundError
    return FileResponse(FILES / name, media_type=NAMES[name], headers={"Cache-Control": "no-cache"})
