"""The request that a job comes from: stored with it, so that whoever works on it can say so.

Its id is for logs; `traceparent` is its span, where there are traces.
"""

from typing import Any

import structlog

from jobs.tracing import traceparent


def origin() -> dict[str, Any]:
    """What the row of a job says of the request that is answered now; nothing where it is none."""
    return {
        "request_id": structlog.contextvars.get_contextvars().get("request_id"),
        "traceparent": traceparent(),
    }
