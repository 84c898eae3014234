"""One request of the API each, as data: what is sent, and how the answer is read. No I/O."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import quote
from uuid import uuid4

import httpx

from lensqueue_client.actions import Action, JobFilter, Verb, action_of, body_of
from lensqueue_client.errors import LensqueueError
from lensqueue_client.items import Item, item_of
from lensqueue_client.jobs import Job, job_of
from lensqueue_client.models import Model, Queue, Worker, model_of, queue_of, worker_of

if TYPE_CHECKING:
    from lensqueue_client.pictures import Part

Answer = TypeVar("Answer")
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Call(Generic[Answer]):
    """A request, and what its answer means."""

    method: str
    path: str
    read: Callable[[httpx.Response], Answer]
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    data: Mapping[str, str] | None = None
    files: tuple[tuple[str, tuple[str | None, Any, str]], ...] = ()
    stream: bool = False
    """Whether the answer's body is left to be read by whoever asked."""
    gone_is_done: bool = False
    """Of a deletion that is sent again: that there is nothing any more is what was wanted."""

    def request(self, http: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        """The request, as the client sends it: files are read from their start."""
        return http.build_request(
            self.method,
            # links may bring a query of their own
            httpx.URL(self.path).copy_merge_params(self.params),
            headers=dict(self.headers),
            json=self.json,
            data=self.data,
            files=list(self.files) or None,
        )


@dataclass(frozen=True, slots=True)
class Page(Generic[Made]):
    """Some of a list, and the token of what follows; None on the last page."""

    items: list[Made]
    token: str | None


def read_json(response: httpx.Response) -> Any:
    """The answered JSON."""
    try:
        return response.json()
    except ValueError:
        # a proxy's page, most likely: whoever reads this is at the wrong address
        raise LensqueueError(
            f"{response.request.url} answered something that is no JSON: is it Lensqueue?",
            code="not-lensqueue",
            status=response.status_code,
        ) from None


def read_bytes(response: httpx.Response) -> bytes:
    """The answered bytes."""
    return response.content


def read_nothing(response: httpx.Response) -> None:
    """Nothing is answered."""


def read_stream(response: httpx.Response) -> httpx.Response:
    """The answer itself, open."""
    return response


def read_job(response: httpx.Response) -> Job:
    """The answered job."""
    return job_of(read_json(response))


def id_of(thing: Any) -> str:
    """The id of a job, action or worker, given itself or by its id."""
    return str(getattr(thing, "id", thing))


def job_path(job: Job | str, rest: str = "") -> str:
    """Where a job is, or something of it."""
    return f"/v1/jobs/{quote(id_of(job), safe='')}{rest}"


def create_job(
    body: Mapping[str, Any], parts: list[Part], key: str | None, params: Mapping[str, Any] | None = None
) -> Call[Any]:
    """Submit a body, with its pictures as files; never twice, by a key of its own if none is given."""
    headers = {"Idempotency-Key": key or str(uuid4())}
    if not parts:
        return Call("POST", "/v1/jobs", read_job, params or {}, headers, json=body)
    return Call(
        "POST",
        "/v1/jobs",
        read_job,
        params or {},
        headers,
        data={"job": json.dumps(body)},
        files=files_of(parts),
    )


def get_job(job: Job | str, headers: Mapping[str, str] | None = None) -> Call[Job]:
    """Poll a job."""
    return Call("GET", job_path(job), read_job, headers=headers or {})


def list_jobs(filters: Mapping[str, Any], token: str | None) -> Call[Page[Job]]:
    """A page of jobs."""
    params = {name: value for name, value in filters.items() if value is not None}
    return page_of("/v1/jobs", params, token, job_of)


def list_results(job: Job | str, limit: int, token: str | None) -> Call[Page[Item]]:
    """A page of results."""
    return page_of(job_path(job, "/results"), {"limit": limit}, token, item_of)


def get_item(job: Job | str, index: int) -> Call[Item]:
    """One item."""
    return Call("GET", job_path(job, f"/items/{index}"), lambda response: item_of(read_json(response)))


def cancel_job(job: Job | str) -> Call[Job]:
    """Drop what waits of a job."""
    return Call("POST", job_path(job, "/cancel"), read_job)


def retry_job(job: Job | str, scope: str, key: str | None) -> Call[Job]:
    """A new job of what failed of one, or of all of it."""
    headers = {"Idempotency-Key": key or str(uuid4())}
    return Call("POST", job_path(job, "/retry"), read_job, headers=headers, json={"scope": scope})


def delete_job(job: Job | str) -> Call[None]:
    """Delete a job that ended."""
    return Call("DELETE", job_path(job), read_nothing, gone_is_done=True)


def count_jobs(verb: Verb, jobs: JobFilter) -> Call[int]:
    """How many jobs an action would be about; nothing is done."""
    body = body_of(verb, jobs, dry_run=True)
    return Call("POST", "/v1/job-actions", lambda response: int(read_json(response)["count"]), json=body)


def create_action(
    verb: Verb, jobs: JobFilter, expected_count: int, reason: str | None, key: str | None
) -> Call[Action]:
    """Act on all jobs that a filter finds; never twice, by a key of its own if none is given."""
    return Call(
        "POST",
        "/v1/job-actions",
        read_action,
        headers={"Idempotency-Key": key or str(uuid4())},
        json=body_of(verb, jobs, expected_count=expected_count, reason=reason),
    )


def get_action(action: Action | str) -> Call[Action]:
    """Look how far an action is."""
    return Call("GET", f"/v1/job-actions/{quote(id_of(action), safe='')}", read_action)


def list_actions(limit: int, token: str | None) -> Call[Page[Action]]:
    """A page of actions."""
    return page_of("/v1/job-actions", {"limit": limit}, token, action_of)


def read_action(response: httpx.Response) -> Action:
    """The answered action."""
    return action_of(read_json(response))


def get_request(job: Job | str) -> Call[Mapping[str, Any]]:
    """The body that a job was submitted with."""
    return Call("GET", job_path(job, "/request"), read_json)


def upload_images(parts: list[Part]) -> Call[list[str]]:
    """Keep pictures; their ids, in order."""
    return Call(
        "POST",
        "/v1/images",
        lambda response: [item["id"] for item in read_json(response)["items"]],
        files=files_of(parts),
    )


def list_models() -> Call[list[Model]]:
    """Every model that jobs may name."""
    return Call(
        "GET", "/v1/models", lambda response: [model_of(each) for each in read_json(response)["items"]]
    )


def get_model(name: str) -> Call[Model]:
    """One model."""
    return Call("GET", f"/v1/models/{quote(name)}", lambda response: model_of(read_json(response)))


def list_workers() -> Call[list[Worker]]:
    """The workers of the last day."""
    return Call(
        "GET", "/v1/workers", lambda response: [worker_of(each) for each in read_json(response)["items"]]
    )


def list_queues() -> Call[list[Queue]]:
    """What waits for each model."""
    return Call(
        "GET", "/v1/queues", lambda response: [queue_of(each) for each in read_json(response)["items"]]
    )


def change_queue(model: str, verb: str) -> Call[Queue]:
    """Pause or resume a model's queue."""
    path = f"/v1/queues/{quote(model)}/{verb}"
    return Call("POST", path, lambda response: queue_of(read_json(response)))


def drain_worker(worker: Worker | str) -> Call[Worker]:
    """Let a worker claim no more."""
    path = f"/v1/workers/{quote(id_of(worker), safe='')}/drain"
    return Call("POST", path, lambda response: worker_of(read_json(response)))


def get_json(path: str, **params: Any) -> Call[Any]:
    """Whatever is at a path."""
    return Call("GET", path, read_json, {name: each for name, each in params.items() if each is not None})


def fetch(path: str, **params: Any) -> Call[bytes]:
    """The bytes at a path or link."""
    return Call("GET", path, read_bytes, {name: each for name, each in params.items() if each is not None})


def open_events(job: Job | str, last_id: str | None) -> Call[httpx.Response]:
    """The stream of a job's events, from behind the last one that is known."""
    headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last_id} if last_id else {})}
    return Call("GET", job_path(job, "/events"), read_stream, headers=headers, stream=True)


def open_results(job: Job | str, shape: str, headers: Mapping[str, str]) -> Call[httpx.Response]:
    """All results of a job as one file."""
    return Call("GET", job_path(job, "/results"), read_stream, {"format": shape}, headers, stream=True)


def link(item: Item, output: str, which: str) -> str:
    """The link of an item's output.

    Raises:
        LookupError: the item has no such output.
    """
    path = (item.raw.get(output) or {}).get(which)
    if path is None:
        raise LookupError(
            f"item {item.index} has no {output!r} of that kind: it failed, or its job did not ask for it"
        )
    return str(path)


def output_path(item: Item, name: str) -> str:
    """Where an array of an item is.

    Raises:
        LookupError: the item has no such output.
    """
    for told in item.raw.values():
        for which, path in told.items() if isinstance(told, dict) else ():
            if which.endswith("url") and str(path).endswith(f"/outputs/{name}"):
                return str(path)
    raise LookupError(f"item {item.index} has no array {name!r}: it failed, or its job did not ask for it")


def page_of(
    path: str, params: Mapping[str, Any], token: str | None, read: Callable[[Mapping[str, Any]], Made]
) -> Call[Page[Made]]:
    """A page of a list, whose things are read so."""

    def read_page(response: httpx.Response) -> Page[Made]:
        told = read_json(response)
        return Page([read(each) for each in told["items"]], told.get("next_page_token"))

    return Call("GET", path, read_page, {**params, **({"page_token": token} if token else {})})


def files_of(parts: Sequence[Part]) -> tuple[tuple[str, tuple[str | None, Any, str]], ...]:
    """Pictures as the files of a multipart body."""
    return tuple(("images", (part.name, part.file, "application/octet-stream")) for part in parts)
