"""Celery's pool of processes, with a word to the ledger whenever one of them ends."""

import signal
from collections.abc import Callable
from typing import Any, ClassVar, Final

from celery.concurrency.asynpool import AsynPool
from celery.concurrency.prefork import TaskPool

FATAL: Final = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT})
"""What a process dies of by its own doing: the work that it held may be to blame."""


class WatchedPool(AsynPool):  # type: ignore[misc]  # Celery carries no types
    """Tells of each process that ended, once, and before another one is started in its place."""

    on_exit: ClassVar[Callable[[int, int], None]]
    """Called with the process id and its exit code: -N for the signal N."""

    def process_flush_queues(self, proc: Any) -> None:
        """Called for every process that ended, first of all."""
        code = proc.exitcode
        if code is not None and not getattr(proc, "was_told_of", False):
            proc.was_told_of = True
            type(self).on_exit(proc.pid, code)
        super().process_flush_queues(proc)


class WatchedTaskPool(TaskPool):  # type: ignore[misc]  # likewise
    """Celery's prefork pool over `WatchedPool`."""

    Pool = WatchedPool

    @property
    def child_pids(self) -> list[int]:
        """The processes that live now."""
        return [process.pid for process in self._pool._pool]  # noqa: SLF001 - Celery and billiard show no other way


def is_fatal(code: int) -> bool:
    """Whether an exit code tells of a crash, not of a kill from outside."""
    return -code in FATAL


def in_words(code: int) -> str:
    """An exit code for a person to read."""
    if code >= 0:
        return f"it exited with {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = " (out of memory, or its time limit)" if name == "SIGKILL" else ""
    return f"it died of {name}{hint}"
