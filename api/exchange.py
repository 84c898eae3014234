"""One request and its answer: what is known of them while they pass, for the log and the usage of keys."""

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import cast

from starlette.requests import HTTPConnection
from starlette.types import Scope

_STATE = "exchange"


@dataclass(slots=True)
class Exchange:
    """A request and its answer, as far as they have come; bytes are those of bodies."""

    request_id: str
    started: float = field(default_factory=time.perf_counter)
    status: int = HTTPStatus.INTERNAL_SERVER_ERROR
    received_bytes: int = 0
    sent_bytes: int = 0
    key_id: uuid.UUID | None = None
    """Known once the key was found good."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """What the answer says too, whoever gives it."""

    @property
    def duration_ms(self) -> float:
        """How long it has been going on."""
        return (time.perf_counter() - self.started) * 1000

    def enter(self, scope: Scope) -> None:
        """Be the exchange of a request, whose state it is kept in."""
        scope.setdefault("state", {}).update({_STATE: self, "request_id": self.request_id})


def exchange_of(request: HTTPConnection) -> Exchange:
    """The exchange that a request is part of."""
    return cast("Exchange", request.scope["state"][_STATE])
