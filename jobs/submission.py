"""What a client asks for, parsed: items, options and terms of a job that is not stored yet."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from jobs.images import Content
from jobs.remote import Remote, Unfetched
from models.types import JobType, Priority

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from engine.catalog import Catalog
    from jobs.units import Admission
    from models.job import Job


@dataclass(frozen=True, slots=True)
class ImageItem:
    """A picture: bytes that lie in the blob store, or the id of an image that was kept before.

    What a URL names is none of these before it is fetched, nor where that failed.
    """

    source: Content | uuid.UUID | Remote | Unfetched
    custom_id: str | None = None


@dataclass(frozen=True, slots=True)
class TextItem:
    """A text to embed."""

    text: str
    custom_id: str | None = None


Item = ImageItem | TextItem


@dataclass(frozen=True, slots=True)
class Terms:
    """When a job must start, how long it may run, and how long its results are kept; None is for ever."""

    start_within: timedelta | None = None
    run_timeout: timedelta | None = None
    result_ttl: timedelta | None = None


class Source(Protocol):
    """Where the items of a job lie that does not bring them: another job, or a version of an image set."""

    @property
    def items(self) -> int:
        """How many it has."""

    @property
    def input_bytes(self) -> int:
        """What its pictures weigh, where any are read."""

    @property
    def version_id(self) -> uuid.UUID | None:
        """The version whose items they are."""

    @property
    def options(self) -> dict[str, Any]:
        """What the job has to know of it."""

    def check(self, catalog: "Catalog") -> None:
        """Refuse, with a DomainError, a source that has not, or no longer, what the job needs."""

    def store(self, session: "Session", job: "Job", admission: "Admission") -> None:
        """Store its items as those of the job, and the waiting work."""


@dataclass(frozen=True, slots=True)
class Submission:
    """What a client asks for, already parsed; `options` are the resolved options of the job's type.

    Without a `priority`, a small job is interactive and a large one is bulk, see `jobs.admission`. A rescore
    and a job over an image set have a `source` in the place of items: there may be many, and none is held.
    """

    type: JobType
    model: str
    items: Sequence[Item]
    options: dict[str, Any]
    priority: Priority | None = None
    terms: Terms = field(default_factory=Terms)
    tags: Mapping[str, str] = field(default_factory=dict)
    key_id: uuid.UUID | None = None
    """The key that it came with; says nothing of what is asked for."""
    webhook_endpoint_id: uuid.UUID | None = None
    """Where its end is told; checked by `jobs.endpoints.check_wanted`."""
    source: Source | None = None

    @property
    def size(self) -> int:
        """How many items it has."""
        return len(self.items) if self.source is None else self.source.items

    @property
    def resolved(self) -> dict[str, Any]:
        """The options with what follows from the source."""
        return self.options if self.source is None else self.options | self.source.options

    @property
    def kind(self) -> str:
        """What its items are, all of them: `text` or `image`."""
        return "text" if self.items and isinstance(self.items[0], TextItem) else "image"
