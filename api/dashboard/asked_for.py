"""What a job was asked for, in the words of its page: ids as the API writes them, layers as one says them."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from api.schemas import ids
from models.image_set import ImageSet, ImageSetVersion

TOLD_APART: Final = {"job_id", "from_job"}
"""The job whose results another is about stands by itself."""
_JOBS: Final = {"other_job_id": "other job", "reference_job_id": "reference job"}


@dataclass(frozen=True, slots=True)
class AskedFor:
    """An option: its name, what it says, and what it leads to; ids are to be copied as they stand."""

    name: str
    words: str
    href: str | None = None
    is_id: bool = False


def asked_for(
    options: Mapping[str, Any], version: ImageSetVersion | None, image_set: ImageSet | None
) -> list[AskedFor]:
    """The options that say something; of the version that the job is of, which of whose it is."""
    patched = "patch" in options.get("outputs", ())
    return [
        _said(name, value, version, image_set)
        for name, value in options.items()
        if value is not None and name not in TOLD_APART and (patched or name != "patch_method")
    ]


def _said(name: str, value: Any, version: ImageSetVersion | None, image_set: ImageSet | None) -> AskedFor:
    if name in _JOBS:
        job = ids.job_id(uuid.UUID(value))
        return AskedFor(_JOBS[name], job, f"/admin/jobs/{job}", is_id=True)
    if name == "set_id":
        wire_id = ids.set_id(uuid.UUID(value))
        return AskedFor("image set", wire_id, f"/admin/sets/{wire_id}", is_id=True)
    if name == "version_id":
        return AskedFor("version", ids.version_id(uuid.UUID(value)), is_id=True)
    if name == "version":
        return _version(value, version, image_set)
    return AskedFor(name.replace("_", " "), _words(value))


def _version(
    value: Mapping[str, Any], version: ImageSetVersion | None, image_set: ImageSet | None
) -> AskedFor:
    wire_id = ids.version_id(uuid.UUID(value["id"]))
    items = f"{value['items']:,} {'item' if value['items'] == 1 else 'items'}" if "items" in value else ""
    if version is None or image_set is None:
        # its set was deleted since
        return AskedFor("version", f"{wire_id}, {items}" if items else wire_id, is_id=True)
    where = f"/admin/sets/{ids.set_id(image_set.id)}?version={version.number}"
    named = f"version {version.number} of {image_set.name}"
    return AskedFor("image set", f"{named}, {items}" if items else named, where)


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        if value.keys() == {"every"}:
            return _every(value["every"])
        return ", ".join(f"{name}: {_words(each)}" for name, each in value.items())
    if isinstance(value, list):
        return ", ".join(map(_words, value))
    return str(value)


def _every(step: int) -> str:
    return "all" if step == 1 else f"every {step}{_ending(step)}, and the last"


def _ending(number: int) -> str:
    if number % 100 in (11, 12, 13):
        return "th"
    return {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
