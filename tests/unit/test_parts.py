"""Multipart bodies as they come, cut anywhere."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.requests import Request

from api.errors import MalformedBodyError
from api.parts import Head, parts_of

DATA = b"\r\n--cu\r\n--cut-not\r\n" + bytes(300)
BODY = (
    b'--cut\r\nContent-Type: application/zip\r\nContent-Disposition: form-data; name="archive"; '
    b'filename="\xc3\xa4.zip"\r\n\r\n' + DATA + b'\r\n--cut\r\nContent-Disposition: form-data; name="options"'
    b"\r\n\r\n{}\r\n--cut--\r\n"
)


def read(body: bytes, at_once: int, content_type: str = "multipart/form-data; boundary=cut") -> list[object]:
    """The heads of the parts, each with all its bytes behind it."""
    pieces = [body[at : at + at_once] for at in range(0, len(body), at_once)]

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": pieces.pop(0) if pieces else b"", "more_body": bool(pieces)}

    async def gather(parts: AsyncIterator[Head | bytes]) -> list[object]:
        found: list[object] = []
        async for part in parts:
            if isinstance(part, Head):
                found += [part, b""]
            else:
                found[-1] += part  # type: ignore[operator]  # bytes, see above
        return found

    headers = [(b"content-type", content_type.encode())]
    return asyncio.run(gather(parts_of(Request({"type": "http", "headers": headers}, receive))))


@pytest.mark.parametrize("at_once", [1, 7, 64, 10_000])
def test_parts_are_the_same_however_the_body_is_cut(at_once: int) -> None:
    assert read(BODY, at_once) == [Head("archive", "ä.zip"), DATA, Head("options", None), b"{}"]


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (BODY[:-20], "multipart/form-data; boundary=cut"),
        (BODY, "multipart/form-data"),
        (BODY, "multipart/form-data; boundary=other"),
        (BODY, f"multipart/form-data; boundary={'x' * 300}"),
        (BODY.replace(b' name="archive";', b""), "multipart/form-data; boundary=cut"),
        (BODY.replace(b"application/zip", b"x" * 100_000), "multipart/form-data; boundary=cut"),
        (b"", "multipart/form-data; boundary=cut"),
    ],
)
def test_what_is_no_multipart_body_is_told(body: bytes, content_type: str) -> None:
    with pytest.raises(MalformedBodyError):
        read(body, 1_000, content_type)
