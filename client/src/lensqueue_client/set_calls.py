"""The requests about image sets, each as data. No I/O."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote
from uuid import uuid4

from lensqueue_client.calls import (
    Call,
    Page,
    files_of,
    id_of,
    job_path,
    page_of,
    read_job,
    read_json,
    read_nothing,
    read_stream,
)
from lensqueue_client.sets import (
    Added,
    Found,
    ImageSet,
    ImageSetVersion,
    SetItem,
    added_of,
    found_of,
    set_item_of,
    set_of,
    version_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import httpx

    from lensqueue_client.jobs import Job
    from lensqueue_client.pictures import Part

NAMING: Final = ("compare_with", "drift_from")
"""Of what is said of a summary, what names jobs."""
OCTETS: Final = "application/octet-stream"
ACCEPTED: Final = 202


def create_set(said: Mapping[str, str], key: str | None) -> Call[ImageSet]:
    """Make a set; never twice, by a key of its own if none is given."""
    headers = {"Idempotency-Key": key or str(uuid4())}
    return Call("POST", "/v1/image-sets", _read_set, headers=headers, json=dict(said))


def list_sets(limit: int, token: str | None) -> Call[Page[ImageSet]]:
    """A page of sets."""
    return page_of("/v1/image-sets", {"limit": limit}, token, set_of)


def get_set(image_set: ImageSet | str) -> Call[ImageSet]:
    """Look at a set."""
    return Call("GET", _set_path(image_set), _read_set)


def change_set(image_set: ImageSet | str, changes: Mapping[str, str | None]) -> Call[ImageSet]:
    """Change what is said of a set; None leaves it as it is."""
    body = {name: value for name, value in changes.items() if value is not None}
    return Call("PATCH", _set_path(image_set), _read_set, json=body)


def delete_set(image_set: ImageSet | str) -> Call[None]:
    """Delete a set."""
    return Call("DELETE", _set_path(image_set), read_nothing, gone_is_done=True)


def seal_set(image_set: ImageSet | str) -> Call[ImageSetVersion]:
    """Seal a set's open version."""
    return Call("POST", _set_path(image_set, "/seal"), _read_version)


def add_named(image_set: ImageSet | str, items: Sequence[Mapping[str, Any]]) -> Call[Added]:
    """Add images that the service has; never twice, by a key of its own."""
    headers = {"Idempotency-Key": str(uuid4())}
    return Call(
        "POST", _set_path(image_set, "/items"), _read_added, headers=headers, json={"items": list(items)}
    )


def add_files(
    image_set: ImageSet | str, parts: Sequence[Part], said: Sequence[Mapping[str, Any]]
) -> Call[Added]:
    """Add pictures that are sent, with what is said of each; never twice, by a key of its own."""
    return Call(
        "POST",
        _set_path(image_set, "/items"),
        _read_added,
        headers={"Idempotency-Key": str(uuid4())},
        data={"items": json.dumps(list(said))},
        files=files_of(parts),
    )


def ingest(
    image_set: ImageSet | str, files: Mapping[str, Part], options: Mapping[str, Any], key: str | None
) -> Call[Job]:
    """Send files by the names of their parts; never twice, by a key of its own if none is given."""
    parts = tuple((name, (part.name, part.file, OCTETS)) for name, part in files.items())
    return Call(
        "POST",
        _set_path(image_set, "/ingestions"),
        read_job,
        headers={"Idempotency-Key": key or str(uuid4())},
        data={"options": json.dumps(dict(options))},
        files=parts,
    )


def ingest_prefix(
    image_set: ImageSet | str, prefix: str, options: Mapping[str, Any], key: str | None
) -> Call[Job]:
    """Have what lies under a prefix of S3 added; never twice, by a key of its own if none is given."""
    headers = {"Idempotency-Key": key or str(uuid4())}
    body = {"prefix": prefix, **options}
    return Call("POST", _set_path(image_set, "/ingestions"), read_job, headers=headers, json=body)


def search(version: ImageSetVersion | str, wanted: Mapping[str, Any]) -> Call[Found | Job]:
    """Search a version; a job where what is looked for is not embedded yet."""
    return Call("POST", _version_path(version, "/search"), _read_found, json=dict(wanted))


def get_version(version: ImageSetVersion | str) -> Call[ImageSetVersion]:
    """Look at a version."""
    return Call("GET", _version_path(version), _read_version)


def get_numbered_version(image_set: ImageSet | str, number: int) -> Call[ImageSetVersion]:
    """Look at a version of a set by its number."""
    return Call("GET", _set_path(image_set, f"/versions/{number}"), _read_version)


def list_set_items(
    version: ImageSetVersion | str, limit: int, token: str | None, *, failed: bool = False
) -> Call[Page[SetItem]]:
    """A page of a version's items."""
    params = {"limit": limit, **({"state": "failed"} if failed else {})}
    return page_of(_version_path(version, "/items"), params, token, set_item_of)


def open_manifest(version: ImageSetVersion | str) -> Call[httpx.Response]:
    """The manifest of a sealed version."""
    return Call("GET", _version_path(version, "/manifest"), read_stream, stream=True)


def summarise(job: Job | str, said: Mapping[str, Any], key: str | None) -> Call[Job]:
    """A summary of a job over an image set, which is a job of its own; what is None is not said."""
    headers = {"Idempotency-Key": key or str(uuid4())}
    return Call("POST", job_path(job, "/summaries"), read_job, headers=headers, json=_said(said))


def compare(job: Job | str, other: Job | str, said: Mapping[str, Any], key: str | None) -> Call[Job]:
    """A comparison of two jobs over one version, which is a job of its own."""
    return _pair("comparisons", {"job_id": id_of(job), "other_job_id": id_of(other), **said}, key)


def drift(job: Job | str, reference: Job | str, said: Mapping[str, Any], key: str | None) -> Call[Job]:
    """How far the version of a job lies from that of another, measured by a job of its own."""
    return _pair("drifts", {"job_id": id_of(job), "reference_job_id": id_of(reference), **said}, key)


def open_file(job: Job | str, name: str, headers: Mapping[str, str]) -> Call[httpx.Response]:
    """A file that a job made."""
    path = job_path(job, f"/files/{quote(name, safe='')}")
    return Call("GET", path, read_stream, headers=headers, stream=True)


def _said(given: Mapping[str, Any]) -> dict[str, Any]:
    """What there is to say, jobs by their ids."""
    return {
        name: id_of(value) if name in NAMING else value for name, value in given.items() if value is not None
    }


def _pair(what: str, body: Mapping[str, Any], key: str | None) -> Call[Job]:
    headers = {"Idempotency-Key": key or str(uuid4())}
    return Call("POST", f"/v1/{what}", read_job, headers=headers, json=dict(body))


def _set_path(image_set: ImageSet | str, rest: str = "") -> str:
    return f"/v1/image-sets/{quote(id_of(image_set), safe='')}{rest}"


def _version_path(version: ImageSetVersion | str, rest: str = "") -> str:
    return f"/v1/image-set-versions/{quote(id_of(version), safe='')}{rest}"


def _read_set(response: httpx.Response) -> ImageSet:
    return set_of(read_json(response))


def _read_version(response: httpx.Response) -> ImageSetVersion:
    return version_of(read_json(response))


def _read_found(response: httpx.Response) -> Found | Job:
    return read_job(response) if response.status_code == ACCEPTED else found_of(read_json(response))


def _read_added(response: httpx.Response) -> Added:
    return added_of(read_json(response))
