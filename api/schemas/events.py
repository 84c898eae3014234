"""Events of a job on the wire, as server-sent events (WHATWG HTML, 9.2)."""

import re
import uuid
from collections.abc import Sequence
from typing import Any, Final

import orjson
from fastapi.sse import format_sse_event

from api.schemas.ids import job_id
from api.schemas.jobs import JobView
from jobs.errors import InvalidRequestError

RETRY_MS: Final = 2_000
DONE: Final = "done"
"""The id of the last event: whoever knows it has nothing to come back for."""
HEARTBEAT: Final = format_sse_event(comment="still here")
_PLACE: Final = re.compile(r"[0-9]{1,10}")


def parse_last_event_id(value: str | None) -> int | None:
    """The place that a client has read up to, 0 at first; None when it has heard that the job is done.

    Raises:
        InvalidRequestError: no event has such an id.
    """
    if value is None or not value:
        return 0
    if value == DONE:
        return None
    if not _PLACE.fullmatch(value):
        raise InvalidRequestError(
            "`Last-Event-ID` is not one that this stream gave.", pointer="/Last-Event-ID"
        )
    # Postgres counts places as signed; what a page adds must fit too
    return min(int(value), 2**30)


def state_event(shown: JobView, *, first: bool) -> bytes:
    """The state of the job; the first event says also when to come back after the stream broke off."""
    return _event("state", {"state": shown.state, "done": shown.done}, retry=RETRY_MS if first else None)


def progress_event(shown: JobView) -> bytes:
    """The counts of the job."""
    return _event("progress", shown.progress.model_dump())


def item_events(job: uuid.UUID, finished: Sequence[Any]) -> bytes:
    """An event for each finished item; its id is the item's place in the order of counting."""
    return b"".join(
        _event(
            "item",
            {
                "index": row.index,
                "custom_id": row.custom_id,
                "state": row.state,
                "error_code": row.error_code,
                "top_label": row.top_label,
                "item_url": f"/v1/jobs/{job_id(job)}/items/{row.index}",
            },
            id_=str(row.place),
        )
        for row in finished
    )


def done_event(shown: JobView) -> bytes:
    """The ended job as a poll shows it; nothing comes behind it."""
    return format_sse_event(event="done", id=DONE, data_str=shown.model_dump_json())


def _event(name: str, data: dict[str, Any], *, id_: str | None = None, retry: int | None = None) -> bytes:
    return format_sse_event(event=name, id=id_, retry=retry, data_str=orjson.dumps(data).decode())
