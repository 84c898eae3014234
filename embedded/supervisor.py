"""Starts services, restarts what dies, and stops everything, foundations last."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from dataclasses import dataclass

import structlog

from embedded.errors import EmbeddedError, NotMainThreadError, ServiceFailedError
from embedded.process import POLL_SECONDS, Running, Service, always_ready

FIRST_DELAY_SECONDS = 0.2
LONGEST_DELAY_SECONDS = 30.0
STABLE_SECONDS = 60.0
MAX_DOUBLINGS = 16  # a night of failures must not overflow a float
WATCH_SECONDS = 0.1

log = structlog.get_logger()


@dataclass(slots=True)
class _Kept:
    service: Service
    running: Running | None = None
    failures: int = 0
    start_at: float | None = None


class Supervisor:
    """Holds services in the order they were started. Not thread-safe: used from the main thread only."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}

    @property
    def names(self) -> list[str]:
        return list(self._kept)

    def pid(self, name: str) -> int | None:
        """The process id of a service, None while it is down."""
        running = self._kept[name].running
        return None if running is None or running.poll() is not None else running.pid

    def is_ready(self, name: str) -> bool:
        """Whether a service runs and has said that it is ready since its last start."""
        running = self._kept[name].running
        return running is not None and running.poll() is None and running.ready

    def start(self, service: Service) -> None:
        """Start a service and return once it is ready.

        Raises:
            ServiceFailedError: it ended or was not ready in time; nothing of it is left.
        """
        if service.name in self._kept:
            raise ServiceFailedError(service.name, "is already kept by this supervisor")
        running = _spawn(service)
        try:
            _await_ready(running)
        except BaseException:
            running.kill()
            raise
        _log_ready(running)
        self._kept[service.name] = _Kept(service, running)

    def end(self, name: str) -> None:
        """End one service, and keep it no longer."""
        kept = self._kept.pop(name)
        if kept.running is not None:
            code = kept.running.stop()
            log.info("service.stopped", service=name, exit=describe_exit(code))

    def run(self, stop: threading.Event) -> None:
        """Watch until `stop` is set; the services keep running."""
        while not stop.wait(WATCH_SECONDS):
            self.watch_once()

    def watch_once(self) -> None:
        """Look at each service once: note deaths, restart what is due, kill what never becomes ready."""
        for kept in self._kept.values():
            if kept.running is not None:
                self._check(kept, kept.running)
            elif kept.start_at is not None and time.monotonic() >= kept.start_at:
                self._restart(kept)

    def stop(self) -> None:
        """End all services, foundations after the others; none is left, even if this is interrupted."""
        try:
            last_first = list(reversed(self._kept.values()))
            _stop_together([kept for kept in last_first if not kept.service.foundation])
            for kept in last_first:
                if kept.service.foundation:
                    _stop_together([kept])
        finally:
            for kept in self._kept.values():
                if kept.running is not None:
                    kept.running.kill()
            self._kept.clear()

    def _check(self, kept: _Kept, running: Running) -> None:
        service = kept.service
        if (code := running.poll()) is not None:
            kept.running = None
            if running.age_seconds >= STABLE_SECONDS:
                kept.failures = 0
            said = running.last_log_lines().splitlines()[-1:]
            self._schedule(
                kept,
                "service.exited",
                pid=running.pid,
                exit=describe_exit(code),
                said=said[0] if said else None,
            )
        elif not running.ready:
            if running.check_ready():
                _log_ready(running)
            elif running.age_seconds > service.ready_timeout_s:
                log.error("service.not_ready", service=service.name, pid=running.pid)
                running.kill()

    def _restart(self, kept: _Kept) -> None:
        try:
            kept.running = _spawn(kept.service)
        except EmbeddedError as error:
            self._schedule(kept, "service.failed", reason=str(error))

    def _schedule(self, kept: _Kept, event: str, **facts: object) -> None:
        """Log what happened and set the time of the next start, later with each failure in a row."""
        delay = None
        if kept.service.restart:
            doublings = min(kept.failures, MAX_DOUBLINGS)
            delay = min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2**doublings)
            kept.failures += 1
        kept.start_at = None if delay is None else time.monotonic() + delay
        log.warning(event, service=kept.service.name, restart_in_seconds=delay, **facts)


def describe_exit(code: int) -> str:
    """An exit code in words: `exit 3`, or the name of the signal."""
    if code >= 0:
        return f"exit {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _spawn(service: Service) -> Running:
    if threading.current_thread() is not threading.main_thread():
        raise NotMainThreadError
    try:
        service.prepare()
        running = Running(service)
    except (OSError, subprocess.SubprocessError) as error:
        raise ServiceFailedError(service.name, f"could not be executed: {error}") from error
    log.info("service.started", service=service.name, pid=running.pid)
    return running


def _await_ready(running: Running) -> None:
    timeout_s = running.service.ready_timeout_s
    while not running.check_ready():
        if (code := running.poll()) is not None:
            raise _failure(running, f"ended before it was ready ({describe_exit(code)})")
        if running.age_seconds > timeout_s:
            raise _failure(running, f"was not ready within {timeout_s:g} s")
        time.sleep(POLL_SECONDS)


def _log_ready(running: Running) -> None:
    if running.service.ready is always_ready:
        return  # nothing was asked, so nothing is known
    elapsed_ms = round(running.age_seconds * 1000)
    log.info("service.ready", service=running.service.name, pid=running.pid, elapsed_ms=elapsed_ms)


def _failure(running: Running, why: str) -> ServiceFailedError:
    service = running.service
    return ServiceFailedError(service.name, why, running.last_log_lines(), service.log)


def _stop_together(kept: list[_Kept]) -> None:
    """Ask all of them to end before waiting for any: each may take seconds."""
    for each in kept:
        each.start_at = None
        if each.running is not None:
            each.running.ask_to_stop()
    for each in kept:
        if each.running is not None:
            code = each.running.await_end()
            log.info("service.stopped", service=each.service.name, exit=describe_exit(code))
