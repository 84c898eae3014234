"""How every process of the service logs: one line an event, ids bound once, no values of local variables."""

import structlog


def configure() -> None:
    """Set up structlog; called by each composition root."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            # the default shows the locals of every frame, and with them keys and users' content
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
        ]
    )
