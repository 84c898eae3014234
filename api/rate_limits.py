"""How many requests a key may make in a minute, and how many bad keys an address may try.

Counted in the memory of this process, in windows that begin with the first request: when one is over is known
to the second, which is what clients are told. See `docs/adr/0010-rate-limits-are-kept-in-memory.md`.
"""

import ipaddress
import math
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter

from api.errors import RateLimitedError

WINDOW_SECONDS = 60
MAX_WINDOWS = 100_000
"""Keys, or addresses, that are counted at a time; of more, the window that began first is forgotten."""
KNOWN_KEYS = 10_000
NETWORK_BITS = 64
"""An IPv6 client has a network of so many bits to itself, and may come from any address in it."""


@dataclass(slots=True)
class _Window:
    ends: float
    hits: int = 0


class Windows(Storage):
    """Counters that end.

    The library's own storage in memory starts a thread every few requests, which looks at all counters.
    """

    STORAGE_SCHEME = None

    def __init__(self, clock: Callable[[], float] = time.monotonic, most: int = MAX_WINDOWS) -> None:
        super().__init__()
        self._clock = clock
        self._most = most
        # all last equally long: the first ones end first
        self._windows: OrderedDict[str, _Window] = OrderedDict()

    def __len__(self) -> int:
        return len(self._windows)

    @property
    def base_exceptions(self) -> type[Exception]:
        """Of the memory there are none."""
        return MemoryError

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count in the window of a key, or in a new one."""
        window = self._running(key)
        if window is None:
            self._make_room()
            window = self._windows[key] = _Window(self._clock() + expiry)
        window.hits += amount
        return window.hits

    def get(self, key: str) -> int:
        """How much was counted in the window that runs."""
        window = self._running(key)
        return 0 if window is None else window.hits

    def get_expiry(self, key: str) -> float:
        """When the window ends, by the clock."""
        window = self._running(key)
        return self._clock() if window is None else window.ends

    def check(self) -> bool:
        """It is always there."""
        return True

    def reset(self) -> int:
        """Forget everything."""
        count = len(self._windows)
        self._windows.clear()
        return count

    def clear(self, key: str) -> None:
        """Forget one window."""
        self._windows.pop(key, None)

    def _running(self, key: str) -> _Window | None:
        window = self._windows.get(key)
        if window is not None and window.ends <= self._clock():
            del self._windows[key]
            return None
        return window

    def _make_room(self) -> None:
        now = self._clock()
        while self._windows:
            first = next(iter(self._windows.values()))
            if first.ends > now and len(self._windows) < self._most:
                return
            self._windows.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Standing:
    """How much of a limit is left, and for how many seconds."""

    limit: int
    left: int
    resets_in_s: int

    def headers(self) -> dict[str, str]:
        """The same as draft-ietf-httpapi-ratelimit-headers has it."""
        return {
            "RateLimit-Policy": f'"default";q={self.limit};w={WINDOW_SECONDS}',
            "RateLimit": f'"default";r={self.left};t={self.resets_in_s}',
        }


class RateLimits:
    """The limits of one process; a limit of 0 is none."""

    def __init__(
        self,
        requests_per_minute: int,
        bad_keys_per_minute: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._requests_per_minute = requests_per_minute
        self._bad_keys_per_minute = bad_keys_per_minute
        self._clock = clock
        self._keys = FixedWindowRateLimiter(Windows(clock))
        self._strangers = Windows(clock)
        self._addresses = FixedWindowRateLimiter(self._strangers)
        self._known: OrderedDict[str, None] = OrderedDict()

    def take(self, key_id: uuid.UUID, own_limit: int | None) -> tuple[bool, Standing | None]:
        """Count a request of a key: whether it may be answered, and how the key stands, if it has a limit."""
        limit = self._requests_per_minute if own_limit is None else own_limit
        if not limit:
            return True, None
        item, name = _per_minute(limit), key_id.hex
        allowed = self._keys.hit(item, name)
        stats = self._keys.get_window_stats(item, name)
        return allowed, Standing(limit, stats.remaining, self._seconds_until(stats.reset_time))

    def check_stranger(self, address: str | None, key_sha256: str) -> None:
        """Refuse, before it is looked up, a key from an address that tried many bad ones.

        Keys that were good before pass: many may share an address, as behind a proxy.

        Raises:
            RateLimitedError: there were too many.
        """
        if not len(self._strangers) or key_sha256 in self._known:
            return
        item, network = _per_minute(self._bad_keys_per_minute), network_of(address)
        if not self._addresses.test(item, network):
            ends = self._addresses.get_window_stats(item, network).reset_time
            raise RateLimitedError(
                "Too many bad keys came from this address.", retry_after_s=self._seconds_until(ends)
            )

    def note_bad_key(self, address: str | None, key_sha256: str) -> None:
        """A key was looked up and is none, or none any more."""
        self._known.pop(key_sha256, None)
        if self._bad_keys_per_minute:
            self._addresses.hit(_per_minute(self._bad_keys_per_minute), network_of(address))

    def note_good_key(self, key_sha256: str) -> None:
        """A key was looked up and is good."""
        self._known[key_sha256] = None
        self._known.move_to_end(key_sha256)
        if len(self._known) > KNOWN_KEYS:
            self._known.popitem(last=False)

    def _seconds_until(self, moment: float) -> int:
        return max(1, math.ceil(moment - self._clock()))


@lru_cache(maxsize=1_000)
def _per_minute(limit: int) -> RateLimitItem:
    return RateLimitItemPerMinute(limit)


def network_of(address: str | None) -> str:
    """What counts as one client: an IPv4 address, or an IPv6 network."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, NETWORK_BITS), strict=False))
