"""Hearing early that this process is to end."""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType


@contextmanager
def on_stop_signal(call: Callable[[], None]) -> Iterator[None]:
    """Call, in the running event loop, as soon as SIGTERM or SIGINT comes, besides whoever heard it before.

    A server tells its application that it ends only after every open request was answered: one that waits for
    news must hear of it before.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are not ours to hear
        return
    loop = asyncio.get_running_loop()
    before: dict[int, Callable[[int, FrameType | None], object]] = {}

    def hear(number: int, frame: FrameType | None) -> None:
        # a loop that is closed has nobody left to tell, and the server must hear of it all the same
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(call)
        before[number](number, frame)

    for number in map(int, (signal.SIGINT, signal.SIGTERM)):
        handler = signal.getsignal(number)
        # where nobody listens the signal itself ends the process, and must go on to
        if callable(handler):
            before[number] = handler
            signal.signal(number, hear)
    try:
        yield
    finally:
        for number, handler in before.items():
            # somebody who came later chains to us, and is not to be cut off
            if signal.getsignal(number) is hear:
                signal.signal(number, handler)
