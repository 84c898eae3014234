"""A multipart body as it comes: the head of each part, and its bytes behind it; nothing of it is kept."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from api.errors import MalformedBodyError

DISPOSITION: Final = b"content-disposition"
MAX_HEADERS: Final = 8
"""Of a part; a browser sends two."""
MAX_HEADER_BYTES: Final = 4_224
"""Of one of them, which is held until it has ended: a file's path, and what is around it."""


@dataclass(frozen=True, slots=True)
class Head:
    """What a part is called, and its file, where it is one."""

    name: str
    filename: str | None


async def parts_of(request: Request) -> AsyncIterator[Head | bytes]:
    """The parts of a body in their order, each its head and then what came of it at a time.

    Raises:
        MalformedBodyError: it is no multipart body, or ends early.
    """
    _, options = parse_options_header(request.headers.get("Content-Type"))
    if not options.get(b"boundary"):
        raise MalformedBodyError("The multipart body cannot be read: its Content-Type names no boundary.")
    reading = _Reading(options[b"boundary"])
    async for chunk in request.stream():
        for found in reading.feed(chunk):
            yield found
    reading.check_end()


class _Reading:
    """The parser of `python-multipart`, and what it has called back with."""

    def __init__(self, boundary: bytes) -> None:
        self._found: list[Head | bytes] = []
        self._field, self._value, self._disposition = b"", b"", b""
        self._ended = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._add_field,
                    "on_header_value": self._add_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._end_headers,
                    "on_part_data": self._add_data,
                    "on_end": self._end,
                },
                max_header_count=MAX_HEADERS,
                max_header_size=MAX_HEADER_BYTES,
            )
        except FormParserError as error:
            raise _unreadable(error) from None

    def feed(self, chunk: bytes) -> list[Head | bytes]:
        """What was found with this chunk."""
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise _unreadable(error) from None
        found, self._found = self._found, []
        return found

    def check_end(self) -> None:
        """Refuse a body that has no end."""
        if not self._ended:
            raise MalformedBodyError("The multipart body ends before its last boundary: send all of it.")

    def _begin(self) -> None:
        self._disposition = b""

    def _add_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._field.lower() == DISPOSITION:
            self._disposition = self._value
        self._field, self._value = b"", b""

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"name" not in options:
            raise MalformedBodyError("A part of the multipart body has no name.")
        filename = options.get(b"filename")
        self._found.append(Head(_text(options[b"name"]), None if filename is None else _text(filename)))

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        self._found.append(data[start:end])

    def _end(self) -> None:
        self._ended = True


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeError:
        return value.decode("latin-1")


def _unreadable(error: Exception) -> MalformedBodyError:
    return MalformedBodyError(f"The multipart body cannot be read: {error}.")
