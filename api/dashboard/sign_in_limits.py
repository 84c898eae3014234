"""How often passwords may be tried: by an address, and for an account."""

import asyncio
import math
import time
from collections.abc import Callable
from typing import Final, cast

from fastapi import Request
from limits import RateLimitItemPerMinute
from limits.strategies import FixedWindowRateLimiter

from api.errors import RateLimitedError
from api.rate_limits import Windows, network_of
from jobs.accounts import MAX_EMAIL

OF_ADDRESS: Final = RateLimitItemPerMinute(20)
OF_ACCOUNT: Final = RateLimitItemPerMinute(5)
"""A minute: whoever knows an address can keep its owner waiting for so long, and not lock them out."""
AT_ONCE: Final = 2


class SignInLimits:
    """Counts tries in the memory of this process, whether there is such an account or not."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._limiter = FixedWindowRateLimiter(Windows(clock))
        self.checking = asyncio.Semaphore(AT_ONCE)

    def take(self, address: str | None, email: str) -> None:
        """Count one more try.

        Raises:
            RateLimitedError: there were too many in this minute.
        """
        counted = (OF_ADDRESS, f"address:{network_of(address)}"), (OF_ACCOUNT, _named(email))
        for limit, who in counted:
            if not self._limiter.hit(limit, who):
                ends = self._limiter.get_window_stats(limit, who).reset_time
                left = max(1, math.ceil(ends - self._clock()))
                raise RateLimitedError(
                    f"Too many tries: wait {left} seconds, then sign in again.", retry_after_s=left
                )

    def forgive(self, email: str) -> None:
        """Count anew for an account whose password was right."""
        self._limiter.clear(OF_ACCOUNT, _named(email))


def limits_of(request: Request) -> SignInLimits:
    """Those of this process."""
    return cast("SignInLimits", request.app.state.sign_in_limits)


def _named(email: str) -> str:
    return f"email:{email.strip().lower()[:MAX_EMAIL]}"
