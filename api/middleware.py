"""What wraps every request: an id for it, a line in the log, and bounds on bodies."""

import asyncio
import uuid

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import BodyStalledError, BodyTooLargeError, internal
from api.exchange import Exchange
from api.metrics import count_request
from api.schemas.ids import key_id
from api.spool import SMALL_BYTES, Bounds, Hold, Spool
from jobs.tracing import request_span

log = structlog.get_logger()

LEAST_BYTES_A_SECOND = 10_000
"""A large body that comes more slowly is given up, as is one that would not be there in BODY_SECONDS."""
BODY_SECONDS = 900.0
"""So long a client is waited for in all, however large its body: for no longer does it hold its room."""


class RequestId:
    """Gives every request an id, in the log and in `X-Request-Id`; answers for what fails inside.

    It logs one line for each, without anything that a client chose but the method: a path's parameters, a
    query and a key may be secrets.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request with its id bound."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = Exchange(f"req_{uuid.uuid4().hex}")
        exchange.enter(scope)
        started = False

        async def counted_receive() -> Message:
            message = await receive()
            exchange.received_bytes += len(message.get("body", b""))
            return message

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                exchange.status = message["status"]
                MutableHeaders(scope=message).update(
                    {"X-Request-Id": exchange.request_id, **exchange.headers}
                )
            else:
                exchange.sent_bytes += len(message.get("body", b""))
            await send(message)

        with (
            structlog.contextvars.bound_contextvars(request_id=exchange.request_id),
            request_span(Headers(scope=scope)) as span,
        ):
            try:
                await self.app(scope, counted_receive, send_with_id)
            except Exception as error:  # noqa: BLE001 - the outermost: it logs, and answers
                # here, not in the framework's own handler: that one knows nothing of the id
                answer = internal(Request(scope), error)
                if not started:
                    await answer(scope, receive, send_with_id)
            finally:
                _finish(scope, exchange)
                if span is not None:
                    span.update_name(f"{scope['method']} {getattr(scope.get('route'), 'path', 'none')}")
                    span.set_attribute("http.response.status_code", int(exchange.status))
                    span.set_attribute("request_id", exchange.request_id)


def _finish(scope: Scope, exchange: Exchange) -> None:
    scope["app"].state.services.usage.count_exchange(exchange)
    count_request(scope, exchange)
    log.info(
        "request.answered",
        method=scope["method"],
        # as it is declared, with the names of its parameters
        route=getattr(scope.get("route"), "path", None),
        status=exchange.status,
        duration_ms=round(exchange.duration_ms, 1),
        received_bytes=exchange.received_bytes,
        sent_bytes=exchange.sent_bytes,
        key=exchange.key_id and key_id(exchange.key_id),
    )


class BodyLimit:
    """Stops reading a body at the limit: raised where the body is read, so that keys are checked first.

    All bodies that are being read or kept for their requests are bounded together, too. One that says that
    it is large holds what it says from the start; so that this is not for long, it has to go on coming, at a
    rate by which all of it is there in BODY_SECONDS. None is waited for longer, whatever it says. A route
    whose bodies are kept elsewhere has bounds of its own for them, see `Hold.widen`.
    """

    def __init__(self, app: ASGIApp, limit_bytes: int, stall_seconds: float, spool: Spool) -> None:
        self.app = app
        self.stall_seconds = stall_seconds
        self.bounds = Bounds(limit_bytes, BODY_SECONDS, spool, "send fewer pictures in one request")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request with a counting `receive`."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("Content-Length", "0")
        declared_bytes = int(declared) if declared.isdigit() else 0
        # a small one is held as it comes: those that never come would add up
        held_bytes = declared_bytes if declared_bytes > SMALL_BYTES else 0
        received = 0
        whole = False
        clock = asyncio.get_running_loop().time
        # so long the client was waited for; at `paced` of it, `before` had come
        waited, paced, before = 0.0, 0.0, 0
        hold = Hold(self.bounds.spool)
        hold.enter(scope)

        async def counted() -> Message:
            nonlocal received, whole, waited, paced, before
            if whole:
                # whoever still asks wants to hear that the client went away
                return await receive()
            bounds = hold.bounds or self.bounds
            if declared_bytes > bounds.limit_bytes:
                raise _too_large(bounds)
            hold.grow_to(held_bytes)
            since = clock()
            message = await self._next(receive, bounds.seconds, waited)
            waited += clock() - since
            whole = not message.get("more_body", False)
            received += len(message.get("body", b""))
            if waited > paced + self.stall_seconds:
                rate = max(LEAST_BYTES_A_SECOND, declared_bytes / bounds.seconds)
                slow = received - before < self.stall_seconds * rate
                if slow and not whole and max(received, held_bytes) > SMALL_BYTES:
                    raise _stalled(
                        f"Less than {rate:.0f} bytes a second of the body came for {self.stall_seconds:g} s"
                    )
                paced, before = waited, received
            if received > bounds.limit_bytes:
                raise _too_large(bounds)
            hold.grow_to(received)
            return message

        try:
            await self.app(scope, counted, send)
        finally:
            hold.release()

    async def _next(self, receive: Receive, seconds: float, waited: float) -> Message:
        left_seconds = seconds - waited
        try:
            async with asyncio.timeout(min(self.stall_seconds, left_seconds)):
                return await receive()
        except TimeoutError:
            if left_seconds < self.stall_seconds:
                raise _stalled(f"Not all of the body came in {seconds:g} s") from None
            raise _stalled(f"Nothing of the body came for {self.stall_seconds:g} s") from None


def _too_large(bounds: Bounds) -> BodyTooLargeError:
    return BodyTooLargeError(f"The body is larger than {bounds.limit_bytes} bytes: {bounds.advice}.")


def _stalled(what: str) -> BodyStalledError:
    return BodyStalledError(f"{what}; nothing was accepted, send it again.")
