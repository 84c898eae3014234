"""Image sets as the service tells of them, and what is added to one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypedDict

from lensqueue_client.jobs import ItemError, known, moment, optional
from lensqueue_client.pictures import Picture


@dataclass(frozen=True, slots=True)
class ImageSetVersion:
    """A list of items of a set as it was last seen; once it is sealed it never changes."""

    id: str
    set_id: str
    number: int
    items: int = 0
    failed: int = 0
    """Of the items, those that are no picture."""
    labelled: int = 0
    image_bytes: int = 0
    manifest_sha256: str | None = None
    created_at: datetime | None = None
    sealed_at: datetime | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def is_sealed(self) -> bool:
        """Whether nothing can be added to it any more."""
        return self.sealed_at is not None


@dataclass(frozen=True, slots=True)
class ImageSet:
    """A named collection of pictures; `versions` is None in a list of sets."""

    id: str
    name: str
    last_version: ImageSetVersion
    versions: tuple[ImageSetVersion, ...] | None = None
    source: str = ""
    licence: str = ""
    notes: str = ""
    created_at: datetime | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class SetItem:
    """What lies at one place of a version: a picture, or in `error` why there is none."""

    index: int
    state: str
    custom_id: str | None = None
    image_id: str | None = None
    sha256: str | None = None
    image_bytes: int = 0
    true_label: str | None = None
    split: str | None = None
    error: ItemError | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)
    true_labels: tuple[str, ...] = ()
    """In the place of `true_label` where several are true."""


@dataclass(frozen=True, slots=True)
class NewItem:
    """A picture that is to be added, and what is said of it; its `custom_id` is its file's name otherwise."""

    picture: Picture
    custom_id: str | None = None
    true_label: str | None = None
    split: str | None = None
    true_labels: Sequence[str] = ()
    """In the place of `true_label` where several are true."""


@dataclass(frozen=True, slots=True)
class Added:
    """What was added to an open version; `first` is the index of the first of them."""

    version_id: str
    first: int
    items: int
    failed: int
    """Of these, those that are no picture: their errors lie at their places."""


@dataclass(frozen=True, slots=True)
class FolderAdded:
    """How far a folder is added, and in the end all of it: `there + added` is `total`."""

    total: int
    """Pictures in the folder."""
    there: int = 0
    """Those that the set had before."""
    added: int = 0
    failed: int = 0
    """Of those that were added now, files that are no picture whatever their name says."""
    passed_over: tuple[Path, ...] = field(default=(), repr=False)
    """Files whose names are none of pictures."""


class SearchOptions(TypedDict, total=False):
    """Which items a search may find, and by which model; a template turns the text into a prompt."""

    template: str
    model: str
    limit: int
    true_label: str
    split: str
    min_cosine: float


@dataclass(frozen=True, slots=True)
class FoundItem:
    """An item of a version that a search found, and how near it is."""

    index: int
    cosine: float
    custom_id: str | None = None
    image_id: str | None = None
    true_label: str | None = None
    split: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found, the nearest first."""

    items: tuple[FoundItem, ...]
    model: str
    exact: bool
    """Whether all vectors were compared; an index that was read instead may miss some."""
    query_job: str | None = None
    """The job that embedded what was looked for."""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)


def found_of(told: Mapping[str, Any]) -> Found:
    """What was found, out of the service's answer."""
    return known(Found, told, items=tuple(known(FoundItem, each) for each in told["items"]), raw=told)


def version_of(told: Mapping[str, Any]) -> ImageSetVersion:
    """A version out of the service's answer."""
    times = {name: moment(told.get(name)) for name in ("created_at", "sealed_at")}
    return known(ImageSetVersion, told, raw=told, **times)


def set_of(told: Mapping[str, Any]) -> ImageSet:
    """A set out of the service's answer."""
    versions = told.get("versions")
    return known(
        ImageSet,
        told,
        last_version=version_of(told["last_version"]),
        versions=None if versions is None else tuple(map(version_of, versions)),
        created_at=moment(told.get("created_at")),
        raw=told,
    )


def set_item_of(told: Mapping[str, Any]) -> SetItem:
    """An item out of the service's answer."""
    labels = tuple(told.get("true_labels") or ())
    return known(SetItem, told, error=optional(ItemError, told.get("error")), raw=told, true_labels=labels)


def added_of(told: Mapping[str, Any]) -> Added:
    """What was added, out of the service's answer."""
    return known(Added, told)
