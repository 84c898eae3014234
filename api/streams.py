"""Streams of server-sent events: how many there are, and each sent no faster than it is read."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from api.errors import TooManyStreamsError


class Streams:
    """How many clients of this process follow a job."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = 0

    def __len__(self) -> int:
        """How many there are."""
        return self._count

    def check_room(self) -> None:
        """Refuse one more than there may be.

        Raises:
            TooManyStreamsError: there are as many already.
        """
        if self._count >= self._most:
            raise TooManyStreamsError

    @contextmanager
    def one(self) -> Iterator[None]:
        """Count one while the block runs."""
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1


class EventStream(StreamingResponse):
    """Events sent as they come: the next is made when the last was taken, so that none pile up."""

    media_type = "text/event-stream"

    def __init__(self, streams: Streams, events: AsyncIterator[bytes], headers: Mapping[str, str]) -> None:
        super().__init__(events, headers=headers)
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them; counted while it does."""
        with self._streams.one():
            await super().__call__(scope, receive, send)
