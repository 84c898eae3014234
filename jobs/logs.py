"""How every process of the service logs: one line an event, ids bound once, no values of local variables."""

import logging
import sys

import structlog


def configure(level: int = logging.INFO) -> None:
    """Set up structlog from a level on; called by each composition root."""
    renderer = structlog.dev.ConsoleRenderer(
        colors=sys.stdout.isatty(),
        # the default shows the locals of every frame, and with them keys and users' content
        exception_formatter=structlog.dev.plain_traceback,
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
    )
