"""Server-sent events (WHATWG HTML, 9.2): bytes in, events out, and where to go on after a break."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

LAST: Final = "done"
"""The event behind which nothing follows."""
_LINE_END = re.compile(rb"\r\n|\n|\r(?!\Z)")


@dataclass(frozen=True, slots=True)
class Event:
    """News of a job: `name` is state, progress, item or done, `data` what it says."""

    name: str
    data: Any
    id: str | None = None


class EventReader:
    """Parses a stream that may come in any pieces, and may break off anywhere."""

    def __init__(self, last_id: str | None = None) -> None:
        """Begin behind an event that is known already."""
        self.last_id = last_id
        self.is_done = False
        self.pause_s = 1.0
        """Before the stream is opened again; the service may say another."""
        self._rest = b""
        self._fields: dict[str, list[str]] = {}

    def reopen(self) -> None:
        """Forget what was half read: the service sends it again."""
        self._rest = b""
        self._fields = {}

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that these bytes complete; one counts as seen once the next is asked for."""
        # by bytes: other line separators of Unicode may stand in the data as they are
        *lines, self._rest = _LINE_END.split(self._rest + chunk)
        for line in lines:
            if line:
                self._take(line.decode("utf-8", "replace"))
            elif (event := self._event()) is not None:
                yield event
                self.last_id = event.id
                self.is_done = event.name == LAST

    def _take(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "retry" and value.isascii() and value.isdigit():
            self.pause_s = int(value) / 1_000
        elif name:  # without one it is a comment, by which the connection is kept alive
            self._fields.setdefault(name, []).append(value)

    def _event(self) -> Event | None:
        fields, self._fields = self._fields, {}
        ids = fields.get("id")
        last = ids[-1] if ids else self.last_id
        if "data" not in fields:
            return None
        data = json.loads("\n".join(fields["data"]))
        return Event(fields.get("event", ["message"])[-1], data, last)
