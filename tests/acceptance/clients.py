"""What tests of the client share: pictures, the one for asyncio called as the other, and a bad network."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, cast

import httpx

from lensqueue_client import AsyncClient, Retries
from tests.conftest import SAMPLES

LABELS = ["cyan ring", "red diamond", "orange square"]
PATHS = [SAMPLES / f"scene-{number:05}.jpg" for number in range(3)]
QUICK = Retries(first_s=0.01)


class Blocking:
    """An AsyncClient whose methods are called as those of Client are."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._client = AsyncClient(*arguments, **options)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        def call(*arguments: Any, **options: Any) -> Any:
            found = method(*arguments, **options)
            if inspect.isasyncgen(found):
                return self._iterate(found)
            return self._loop.run_until_complete(found)

        return call

    def _iterate(self, found: AsyncIterator[Any]) -> Iterator[Any]:
        # one at a time: whoever stops in the middle must find the rest untouched
        while True:
            try:
                yield self._loop.run_until_complete(cast("Coroutine[Any, Any, Any]", anext(found)))
            except StopAsyncIteration:
                return

    def close(self) -> None:
        self._loop.run_until_complete(self._client.close())
        self._loop.close()


class Faulty(httpx.HTTPTransport):
    """Sends what it is given, and loses the first answers, or replaces them by others."""

    def __init__(self, *faults: Exception | httpx.Response) -> None:
        super().__init__()
        self.faults = list(faults)
        self.sent: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(request)
        answer = super().handle_request(request)
        if not self.faults:
            return answer
        answer.read()
        fault = self.faults.pop(0)
        if isinstance(fault, Exception):
            raise fault
        return fault


class Stops(httpx.HTTPTransport):
    """Lets a body break off after so many bytes, so many times."""

    def __init__(self, path: str, after_bytes: int, times: int) -> None:
        super().__init__()
        self.path, self.after_bytes, self.times = path, after_bytes, times
        self.asked: list[httpx.Headers] = []
        self.statuses: list[int] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = super().handle_request(request)
        if request.url.path.endswith(self.path):
            self.asked.append(request.headers)
            self.statuses.append(answer.status_code)
            if self.times:
                self.times -= 1
                assert isinstance(answer.stream, httpx.SyncByteStream)
                answer.stream = Broken(answer.stream, self.after_bytes)
        return answer


class Broken(httpx.SyncByteStream):
    def __init__(self, whole: httpx.SyncByteStream, after_bytes: int) -> None:
        self.whole, self.after_bytes = whole, after_bytes

    def __iter__(self) -> Iterator[bytes]:
        left = self.after_bytes
        for chunk in self.whole:
            yield chunk[:left]
            left -= len(chunk)
            if left <= 0:
                raise httpx.ReadError("broken")

    def close(self) -> None:
        self.whole.close()
