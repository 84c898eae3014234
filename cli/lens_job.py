"""A logit-lens job over HTTP, from the pictures on disk to the numbers and maps of each."""

import io
import json
import time
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cli.collection import Collection, Picture
from cli.console import console, fail

STALL_SECONDS = 900.0
MAP_COLUMNS = 7
"""Patch layers asked for, about: a lens of every layer of a large model costs half a forward pass more."""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A picture of a collection: the id it was given, or why it was refused."""

    picture: Picture
    image_id: str | None = None
    error: dict[str, Any] | None = None


def upload(client: httpx.Client, collection: Collection) -> list[Uploaded]:
    """Send every picture; one that is refused is kept with the reason, the others go on."""
    with _progress("Uploading") as bar:
        return [_upload(client, picture) for picture in bar.track(collection.pictures)]


def submit(
    client: httpx.Client, model: str, collection: Collection, uploaded: list[Uploaded]
) -> dict[str, Any]:
    """Queue a lens with patch maps over the pictures that were taken."""
    if not any(sent.image_id for sent in uploaded):
        first = uploaded[0]
        assert first.error is not None
        fail(f"none of the pictures can be used; {first.picture.name}: {first.error['message']}")
    options: dict[str, Any] = {"outputs": ["pooled", "patch"], "patch_layers": _patch_layers(client, model)}
    if collection.template is not None:
        options["template"] = collection.template
    images = [
        {"image_id": sent.image_id, "custom_id": sent.picture.name} for sent in uploaded if sent.image_id
    ]
    wanted = {
        "type": "logit_lens",
        "model": model,
        "input": {"images": images},
        "labels": list(collection.labels),
        "options": options,
    }
    job = read_json(client.post("/v1/jobs", json=wanted))
    console.print(
        f"Submitted {job['id']}: {len(images)} pictures, {len(collection.labels)} labels, {model}",
        soft_wrap=True,
    )
    return job


def watch(client: httpx.Client, job: dict[str, Any]) -> dict[str, Any]:
    """Follow the job to its end."""
    with _progress("Logit lens") as bar:
        task = bar.add_task("", total=job["progress"]["total"])
        tag, moved = "", time.monotonic()
        while not job["done"]:
            answer = client.get(job["links"]["self"], headers={"Prefer": "wait=1", "If-None-Match": tag})
            if answer.status_code == httpx.codes.NOT_MODIFIED:
                if time.monotonic() - moved > STALL_SECONDS:
                    fail(f"the job stands still: {json.dumps(job)}")
                continue
            job, tag, moved = read_json(answer), answer.headers["ETag"], time.monotonic()
            progress = job["progress"]
            bar.update(task, completed=progress["succeeded"] + progress["failed"] + progress["dropped"])
    return job


def fetch_items(client: httpx.Client, job: dict[str, Any]) -> list[dict[str, Any]]:
    """The results of all items, page after page."""
    items: list[dict[str, Any]] = []
    token: str | None = None
    while True:
        page = read_json(client.get(job["links"]["results"], params={"page_token": token} if token else {}))
        items += page["items"]
        token = page["next_page_token"]
        if token is None:
            return items


def refused(uploaded: list[Uploaded]) -> list[dict[str, Any]]:
    """The pictures that were not even taken, in the shape of failed items."""
    return [
        {"custom_id": sent.picture.name, "state": "failed", "error": sent.error}
        for sent in uploaded
        if sent.error is not None
    ]


def fetch_maps(client: httpx.Client, item: dict[str, Any]) -> tuple[bytes, NDArray[np.float32]]:
    """The thumbnail (JPEG) of an item and its patch scores [layer, label, row, col]."""
    scores = fetch(client, item["patch"]["scores_url"], format="npy")
    return fetch(client, item["patch"]["thumbnail_url"]), np.load(io.BytesIO(scores), allow_pickle=False)


def fetch(client: httpx.Client, path: str, **query: str) -> bytes:
    """The bytes that are answered at a path."""
    answer = client.get(path, params=query)
    _check(answer)
    return answer.content


def read_json(answer: httpx.Response) -> dict[str, Any]:
    """The answered object; ends the command, saying what was answered, when it is an error."""
    _check(answer)
    body: dict[str, Any] = answer.json()
    return body


def _upload(client: httpx.Client, picture: Picture) -> Uploaded:
    try:
        data = picture.path.read_bytes()
    except OSError as fault:
        return Uploaded(picture, error={"code": "unreadable-file", "message": str(fault), "retryable": True})
    answer = client.post("/v1/images", content=data, headers={"Content-Type": "application/octet-stream"})
    if answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY:
        problem = answer.json()
        error = {"code": problem["code"], "message": problem["detail"], "retryable": False}
        return Uploaded(picture, error=error)
    return Uploaded(picture, image_id=read_json(answer)["items"][0]["id"])


def _patch_layers(client: httpx.Client, model: str) -> str | dict[str, int]:
    dimensions = read_json(client.get(f"/v1/models/{model}"))["dimensions"]
    if dimensions is None or dimensions["layers"] < MAP_COLUMNS:
        return "all"
    return {"every": dimensions["layers"] // (MAP_COLUMNS - 1)}


def _check(answer: httpx.Response) -> None:
    if not answer.is_success:
        request = answer.request
        fail(f"{request.method} {request.url.path} answered {answer.status_code}: {answer.text}")


def _progress(title: str) -> Progress:
    columns = (TextColumn(title.ljust(10)), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)
