"""A logit-lens job of a collection, from the pictures on disk to the numbers and maps of each."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cli.collection import Collection, Picture
from cli.console import console, fail
from cli.progress import bar, follow
from lensqueue_client import Client, InvalidRequestError, Job, WaitTimeoutError
from lensqueue_client.errors import counted
from lensqueue_client.items import item_of
from lensqueue_client.submissions import Layers, LensOptions

STALL_SECONDS = 900.0
MAP_COLUMNS = 7
"""Patch layers asked for, about: a lens of every layer of a large model costs half a forward pass more."""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A picture of a collection: the id it was given, or why it was refused."""

    picture: Picture
    image_id: str | None = None
    error: dict[str, Any] | None = None


def upload(client: Client, collection: Collection) -> list[Uploaded]:
    """Send every picture; one that is refused is kept with the reason, the others go on."""
    with bar("Uploading") as shown:
        return [_upload(client, picture) for picture in shown.track(collection.pictures)]


def submit(client: Client, model: str, collection: Collection, uploaded: list[Uploaded]) -> Job:
    """Queue a lens with patch maps over the pictures that were taken."""
    images = [(sent.picture.name, sent.image_id) for sent in uploaded if sent.image_id]
    if not images:
        first = uploaded[0]
        assert first.error is not None
        fail(f"none of the pictures can be used; {first.picture.name}: {first.error['message']}")
    options: LensOptions = {"outputs": ["pooled", "patch"], "patch_layers": _patch_layers(client, model)}
    if collection.template is not None:
        options["template"] = collection.template
    job = client.submit_lens(images, collection.labels, model, **options)
    pictures, labels = counted(len(images), "picture"), counted(len(collection.labels), "label")
    console.print(f"Submitted {job.id}: {pictures}, {labels}, {model}", soft_wrap=True)
    return job


def watch(client: Client, job: Job) -> Job:
    """Follow the job to its end."""
    while True:
        try:
            return follow(client, job, "Logit lens", STALL_SECONDS)
        except WaitTimeoutError as late:
            if late.job.progress == job.progress:
                fail(f"the job stands still: {late.message}")
            job = late.job


def refused(uploaded: list[Uploaded]) -> list[dict[str, Any]]:
    """The pictures that were not even taken, in the shape of failed items."""
    return [
        {"custom_id": sent.picture.name, "state": "failed", "error": sent.error}
        for sent in uploaded
        if sent.error is not None
    ]


def fetch_items(client: Client, job: Job) -> list[dict[str, Any]]:
    """The results of all items, as the service tells them."""
    return [dict(item.raw) for item in client.results(job)]


def fetch_maps(client: Client, item: dict[str, Any]) -> tuple[bytes, NDArray[np.float32]]:
    """The thumbnail (JPEG) of an item and its patch scores [layer, label, row, col]."""
    known = item_of(item)
    return client.thumbnail(known), client.scores(known)


def _upload(client: Client, picture: Picture) -> Uploaded:
    try:
        (image_id,) = client.upload(picture.path)
    except OSError as fault:
        return Uploaded(picture, error={"code": "unreadable-file", "message": str(fault), "retryable": True})
    except InvalidRequestError as fault:
        return Uploaded(picture, error={"code": fault.code, "message": fault.message, "retryable": False})
    return Uploaded(picture, image_id=image_id)


def _patch_layers(client: Client, model: str) -> Layers:
    dimensions = client.model(model).dimensions
    if dimensions is None or dimensions.layers < MAP_COLUMNS:
        return "all"
    return {"every": dimensions.layers // (MAP_COLUMNS - 1)}
