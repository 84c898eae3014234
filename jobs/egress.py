"""Requests to URLs that others chose: only to where the rules allow, and never longer or larger than said.

The host is looked up once, every address that comes of it is checked, and the connection is made to one of
those: a name that leads elsewhere the next moment (rebinding) gains nothing. TLS and `Host` keep the name.
"""

import asyncio
import ipaddress
import re
import socket
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Final

import httpx

from jobs.addresses import Address, Rules
from jobs.errors import UrlRefusedError, UrlUnreachableError

MAX_URL: Final = 2_000
LOOKUPS: Final = 32
"""Names that are looked up at a time; a look-up cannot be stopped, and may take its resolver's time."""
ADDRESSES: Final = 3
"""Of a host with more, no others are tried."""
DEFAULT_PORT: Final = {"http": 80, "https": 443}
MAY_BE_ALLOWED: Final = "The operator of this service may allow it by LENSQUEUE_EGRESS_ALLOWED."
"""Said of what is a matter of the rules; to where a name leads is not: that would map the network here."""
NAME: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?")
NUMBER: Final = re.compile(r"(^|\.)(0x[0-9a-f]*|[0-9]+)\.?$")
"""A name that ends so is an IPv4 address to `getaddrinfo`, in whichever of its forms."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long a request may take, by its steps and in all, and how much of the answer is read."""

    connect_seconds: float = 5.0
    read_seconds: float = 10.0
    """Without a byte."""
    total_seconds: float = 15.0
    answer_bytes: int = 64 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whatever its status; redirects too."""

    status: int
    headers: httpx.Headers
    body: bytes
    """As it was sent: no content encoding is undone."""
    whole: bool
    """Whether `body` is all of it, rather than as much as may be read."""


class Egress:
    """Sends requests by the rules; without cookies, proxies, redirects or kept connections."""

    def __init__(self, rules: Rules | None = None) -> None:
        """Nothing is sent yet; `close` ends it."""
        self._rules = rules or Rules()
        self._lookups = threading.Semaphore(LOOKUPS)
        # the transport alone: a client would keep the cookies of one receiver for the next. No kept
        # connections: they are told apart by address, and two names may share one
        self._transport = httpx.AsyncHTTPTransport(
            verify=_certificates(), trust_env=False, limits=httpx.Limits(max_keepalive_connections=0)
        )

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        bounds: Bounds | None = None,
    ) -> Answer:
        """Send one request and return the answer.

        Raises:
            UrlRefusedError: the rules do not allow the URL, or an address that it leads to.
            UrlUnreachableError: nobody answered there, in time and in HTTP.
        """
        bounds = bounds or Bounds()
        asked = check_url(url, self._rules)
        try:
            async with asyncio.timeout(bounds.total_seconds):
                addresses = await self._resolve(asked)
                return await self._send_to(addresses, asked, method, headers or {}, body, bounds)
        except TimeoutError:
            raise UrlUnreachableError(f"There was no answer within {bounds.total_seconds:g} s.") from None

    async def close(self) -> None:
        """Close what is still open."""
        await self._transport.aclose()

    async def _resolve(self, url: httpx.URL) -> list[Address]:
        host = _host(url)
        port = port_of(url)
        try:
            addresses: list[Address] = [ipaddress.ip_address(host)]
        except ValueError:
            addresses = await self._look_up(host, port)
        # one that is refused refuses all: which of them is asked must be no matter of luck
        if not all(self._rules.allow(host, address, port) for address in addresses):
            raise UrlRefusedError(
                f"The URL leads to an address that is not public. {MAY_BE_ALLOWED}", pointer="/url"
            )
        return addresses[:ADDRESSES]

    async def _look_up(self, host: str, port: int) -> list[Address]:
        if not self._lookups.acquire(blocking=False):
            raise UrlUnreachableError("Too many names are being looked up: try again.")
        loop = asyncio.get_running_loop()
        found: asyncio.Future[list[Address]] = loop.create_future()

        def look_up() -> None:
            try:
                addresses = _addresses(host, port)
            except (OSError, UnicodeError, ValueError):
                addresses = []
            finally:
                self._lookups.release()
            # the loop may be closed by now
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_settle, found, addresses)

        # a thread of its own, that nobody waits for at the end: a resolver may take half a minute
        threading.Thread(target=look_up, name="look-up", daemon=True).start()
        addresses = await found
        if not addresses:
            raise UrlUnreachableError("The host of the URL has no address.")
        return addresses

    async def _send_to(
        self,
        addresses: list[Address],
        url: httpx.URL,
        method: str,
        headers: Mapping[str, str],
        body: bytes,
        bounds: Bounds,
    ) -> Answer:
        for address in addresses:
            request = _request(address, url, method, headers, body, bounds)
            try:
                response = await self._transport.handle_async_request(request)
                try:
                    read, whole = await _read(response, bounds.answer_bytes)
                finally:
                    await response.aclose()
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                # nothing was sent: the next address may be tried
                fault = error
            except (httpx.TransportError, httpx.StreamError) as error:
                raise UrlUnreachableError(_fault(error)) from error
            else:
                return Answer(response.status_code, response.headers, read, whole)
        raise UrlUnreachableError(_fault(fault)) from fault


def check_url(url: str, rules: Rules) -> httpx.URL:
    """The URL, parsed, unless it is refused whatever its host's name leads to.

    Raises:
        UrlRefusedError: it is not one of http or https, on a port and to a host that the rules allow.
    """
    try:
        if len(url) > MAX_URL:
            raise UrlRefusedError(f"A URL has {MAX_URL} characters at most.", pointer="/url")
        parsed = httpx.URL(url)
        host = _host(parsed)
    except (httpx.InvalidURL, UnicodeError, ValueError):
        raise UrlRefusedError("This is not a URL.", pointer="/url") from None
    if parsed.scheme not in DEFAULT_PORT or not host:
        raise UrlRefusedError("A URL begins with https:// or http:// and a host.", pointer="/url")
    if parsed.userinfo:
        raise UrlRefusedError("A URL holds no user name and no password here.", pointer="/url")
    _check_host(host, port_of(parsed), rules)
    return parsed.copy_with(fragment=None)


def port_of(url: httpx.URL) -> int:
    """The port of a URL of http or https."""
    return url.port if url.port is not None else DEFAULT_PORT[url.scheme]


def _check_host(host: str, port: int, rules: Rules) -> None:
    if not rules.allow_port(host, port):
        raise UrlRefusedError(f"Port {port} is not allowed: use 80 or 443. {MAY_BE_ALLOWED}", pointer="/url")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if NUMBER.search(host):
            raise UrlRefusedError("Write an address as four decimal numbers.", pointer="/url") from None
        if not NAME.fullmatch(host):
            raise UrlRefusedError("This is not the name of a host.", pointer="/url") from None
    else:
        if not rules.allow(host, address, port):
            raise UrlRefusedError(f"This address is not public. {MAY_BE_ALLOWED}", pointer="/url")


def _host(url: httpx.URL) -> str:
    return url.raw_host.decode("ascii").lower()


def _addresses(host: str, port: int) -> list[Address]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    # one address once, in the order that the system prefers
    return [ipaddress.ip_address(text) for text in dict.fromkeys(str(entry[4][0]) for entry in found)]


def _settle(found: asyncio.Future[list[Address]], addresses: list[Address]) -> None:
    # whoever asked may have given up
    if not found.done():
        found.set_result(addresses)


def _request(
    address: Address, url: httpx.URL, method: str, headers: Mapping[str, str], body: bytes, bounds: Bounds
) -> httpx.Request:
    timeouts = httpx.Timeout(bounds.read_seconds, connect=bounds.connect_seconds)
    return httpx.Request(
        method,
        url.copy_with(host=str(address)),
        headers={**headers, "accept-encoding": "identity", "host": url.netloc.decode("ascii")},
        content=body,
        extensions={"timeout": timeouts.as_dict(), "sni_hostname": _host(url).removesuffix(".")},
    )


async def _read(response: httpx.Response, most: int) -> tuple[bytes, bool]:
    read = bytearray()
    async for part in response.aiter_raw():
        read += part
        if len(read) > most:
            return bytes(read[:most]), False
    return bytes(read), True


@cache
def _certificates() -> ssl.SSLContext:
    # once a process: to read which authorities are trusted takes 30 ms
    return httpx.create_ssl_context()


def _fault(error: Exception) -> str:
    if isinstance(error, httpx.ConnectTimeout):
        return "No connection was made in time."
    if isinstance(error, httpx.TimeoutException):
        return "The answer took too long."
    # what the system or TLS says of it: refused, reset, no valid certificate
    return f"{type(error).__name__}: {error}"[:300]
