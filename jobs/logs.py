"""How every process of the service logs: one line an event, ids bound once, no values of local variables."""

import logging
import sys
from typing import Any, Literal

import structlog

LogFormat = Literal["console", "json"]


def configure(level: int = logging.INFO, log_format: LogFormat = "console") -> None:
    """Set up structlog from a level on; called by each composition root."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            *_rendered(log_format),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
    )


def _rendered(log_format: LogFormat) -> list[Any]:
    if log_format == "json":
        # a traceback as it is printed: as a structure it would show the locals of every frame
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    renderer = structlog.dev.ConsoleRenderer(
        colors=sys.stdout.isatty(),
        # the default shows the locals of every frame, and with them keys and users' content
        exception_formatter=structlog.dev.plain_traceback,
    )
    return [renderer]
