"""A file of results that is fetched in pieces if need be: what came before a connection broke is kept."""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Self

import httpx

if TYPE_CHECKING:
    import os
    from types import TracebackType

FORMATS: Final = {".parquet": "parquet", ".npz": "npz", ".ndjson": "ndjson", ".jsonl": "ndjson"}
"""What the service calls a file, by the end of its name."""


class Download:
    """`target`, once it is whole; until then `target.part`, and its tag beside it."""

    def __init__(self, target: str | os.PathLike[str], shape: str | None = None) -> None:
        """See what an earlier try left.

        Raises:
            ValueError: the name's end says no format, and none was given.
        """
        self.target = Path(target)
        if shape is None and self.target.suffix.lower() not in FORMATS:
            raise ValueError(
                f"{self.target}: call it {', '.join(f'*{end}' for end in FORMATS)}, or give a format"
            )
        self.shape = shape or FORMATS[self.target.suffix.lower()]
        self._part = self.target.with_name(f"{self.target.name}.part")
        self._tag = self.target.with_name(f"{self.target.name}.part.etag")
        self._file: IO[bytes] | None = None
        self.is_whole = False

    def headers(self) -> dict[str, str]:
        """Ask for what is missing, provided that the rest is still that of the same file."""
        if not (self._part.is_file() and self._tag.is_file()) or not self._part.stat().st_size:
            return {"Accept-Encoding": "identity"}
        return {
            "Range": f"bytes={self._part.stat().st_size}-",
            "If-Range": self._tag.read_text(encoding="ascii"),
        }

    def settle(self, refused: httpx.Response) -> None:
        """Of a part behind which the service has nothing (416): it is whole, or of no use and dropped."""
        size_bytes = self._part.stat().st_size
        if refused.headers.get("Content-Range") == f"bytes */{size_bytes}":
            self.finish()
        else:
            self._part.unlink()
            self._tag.unlink(missing_ok=True)

    def begin(self, response: httpx.Response) -> Self:
        """Go on where the part ends, if the service does; else from the start. To be used in a `with`."""
        goes_on = response.status_code == httpx.codes.PARTIAL_CONTENT
        tag = response.headers.get("ETag", "")
        self._file = self._part.open("ab" if goes_on else "wb")
        if tag and not tag.startswith("W/"):
            self._tag.write_text(tag, encoding="ascii")
        else:
            self._tag.unlink(missing_ok=True)
        return self

    def write(self, chunk: bytes) -> None:
        """Keep some bytes."""
        assert self._file is not None
        self._file.write(chunk)

    def finish(self) -> None:
        """It is whole: it gets its name."""
        if self._file is not None:
            self._file.close()
        self._part.replace(self.target)
        self._tag.unlink(missing_ok=True)
        self.is_whole = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        self._file.close()
