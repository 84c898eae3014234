"""What every answer of the dashboard says to browsers, and which requests are heard at all."""

from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobs.errors import ForeignOriginError

COOKIE: Final = "__Host-lensqueue"
"""The prefix has browsers insist on Secure, on this very host and on the whole of it."""
SAFE: Final = frozenset({"GET", "HEAD"})
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Nothing comes from elsewhere and nothing goes there; no script but the files of `static/`."""


class SecurityHeaders:
    """Puts HEADERS on every answer that does not say otherwise itself."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request; what a view sets stands."""

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, send_guarded)


async def check_origin(request: Request) -> None:
    """Let only the dashboard's own pages change anything; depended upon by every route.

    Raises:
        ForeignOriginError: the request does not come from one.
    """
    if request.method in SAFE:
        return
    if not is_own(request.headers):
        raise ForeignOriginError


def is_own(headers: Headers) -> bool:
    """Whether a browser says that its request comes from a page of this very host.

    What stands before the service may end TLS: of the origin it is the host that counts.
    """
    if (site := headers.get("Sec-Fetch-Site")) is not None:
        return site == "same-origin"
    origin = headers.get("Origin", "")
    return origin.partition("://")[2].lower() == headers.get("Host", "").lower() != ""


def keep_cookie(response: Response, token: str, seconds: int) -> None:
    """Have the browser keep a session's token, out of reach of scripts.

    Lax: a link in a chat leads to its page; what changes something has to come from a page of ours anyway.
    """
    response.set_cookie(COOKIE, token, max_age=seconds, path="/", secure=True, httponly=True, samesite="lax")


def drop_cookie(response: Response) -> None:
    """Have the browser forget it."""
    response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="lax")
