"""The client that waits for each answer; `AsyncClient` beside it has the same methods."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, cast

import httpx

from lensqueue_client import calls, flows, reproduction, submissions
from lensqueue_client.arrays import Rows, labelled
from lensqueue_client.configuration import configure
from lensqueue_client.downloads import Download
from lensqueue_client.errors import unreachable
from lensqueue_client.events import Event, EventReader
from lensqueue_client.flows import Flow, Retries
from lensqueue_client.numbers import read_npy
from lensqueue_client.pictures import Picture, parts_of
from lensqueue_client.set_methods import SetMethods

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from lensqueue_client.actions import Action, JobFilter, Verb
    from lensqueue_client.arrays import JobArrays
    from lensqueue_client.calls import Call
    from lensqueue_client.errors import LensqueueError
    from lensqueue_client.items import Item
    from lensqueue_client.jobs import Job
    from lensqueue_client.models import Model, Queue, Worker
    from lensqueue_client.reproduction import Reproduction
    from lensqueue_client.submissions import EmbeddingOptions, Labels, LensOptions, RescoreOptions

Result = TypeVar("Result")
TIMEOUT = httpx.Timeout(60.0, connect=10.0)
PAGE_ITEMS = 100


class Client(SetMethods):
    """Submit, wait, fetch. Address and key are given, or found as `configure` says.

    `on_retry` hears why something is about to be sent again, and in how many seconds.
    To be used in a `with`, or closed. Not for several threads that also close it; else it may be shared.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: httpx.Timeout | float = TIMEOUT,
        retries: Retries | None = None,
        on_retry: Callable[[LensqueueError, float], object] | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        found = configure(base_url, api_key)
        self._retries = retries or Retries()
        self._on_retry = on_retry
        self._http = httpx.Client(
            base_url=found.url, headers=found.headers(), timeout=timeout, transport=transport
        )

    def submit_lens(
        self,
        images: Iterable[Picture] | Picture,
        labels: Labels,
        model: str | None = None,
        **options: Unpack[LensOptions],
    ) -> Job:
        """Queue a logit lens: each layer of each picture, scored against the labels."""
        return self._send(submissions.lens(images, labels, model, options))

    def submit_embedding(
        self,
        images: Iterable[Picture] | Picture = (),
        *,
        texts: Sequence[str] | str = (),
        model: str | None = None,
        **options: Unpack[EmbeddingOptions],
    ) -> Job:
        """Queue embeddings of pictures or of texts."""
        return self._send(submissions.embedding(images, texts, model, options))

    def rescore(self, job: Job | str, labels: Labels, **options: Unpack[RescoreOptions]) -> Job:
        """Queue other labels on what a job kept by the output `embeddings`: no forward pass."""
        return self._send(submissions.rescore(job, labels, options))

    def submit(
        self,
        body: Mapping[str, Any],
        images: Iterable[Picture] | Picture = (),
        *,
        idempotency_key: str | None = None,
    ) -> Job:
        """Queue a job whose body is written out."""
        return self._send(submissions.raw(body, images, idempotency_key))

    def dry_run(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """What a body would cost; nothing is queued."""
        return self._send(submissions.dry_run(body))

    def job(self, job: Job | str) -> Job:
        """A job as it is now."""
        return self._send(calls.get_job(job))

    def wait(
        self,
        job: Job | str,
        timeout: float | None = None,
        on_progress: Callable[[Job], object] | None = None,
    ) -> Job:
        """The job once it is done, however that is; `on_progress` hears of it first and at every change.

        Raises:
            WaitTimeoutError: it was not done in the time given; it goes on.
        """
        return self._run(flows.wait(job, timeout, on_progress, self._http.timeout.read))

    def jobs(self, *, page_size: int = PAGE_ITEMS, **filters: Any) -> Iterator[Job]:
        """Jobs, newest first, page by page, chosen by `state`, `type`, `model`, `tag`, `created_after`."""
        token: str | None = None
        while True:
            page = self._send(calls.list_jobs({"limit": page_size, **filters}, token))
            yield from page.items
            if (token := page.token) is None:
                return

    def results(self, job: Job | str, *, page_size: int = PAGE_ITEMS) -> Iterator[Item]:
        """The items that have results so far, page by page; failed ones say why."""
        token: str | None = None
        while True:
            page = self._send(calls.list_results(job, page_size, token))
            yield from page.items
            if (token := page.token) is None:
                return

    def item(self, job: Job | str, index: int) -> Item:
        """One item."""
        return self._send(calls.get_item(job, index))

    def to_numpy(self, job: Job | str, *, partial: bool = False) -> JobArrays:
        """All numbers of a job in memory, axes item, layer, label; `partial`: of the items done so far.

        Raises:
            JobNotEndedError: it has not ended, and `partial` was not said.
        """
        self._run(flows.ended(job, self._retries, partial=partial))
        rows = Rows()
        for item in self.results(job):
            rows.add(item)
        return rows.arrays()

    def job_array(self, job: Job | str, *, partial: bool = False) -> Any:
        """The same with named axes: an xarray.Dataset where xarray is installed, else as `to_numpy`."""
        return labelled(self.to_numpy(job, partial=partial))

    def scores(self, item: Item) -> NDArray[np.float32]:
        """Patch scores of an item [layer, label, row, col]."""
        return read_npy(self._send(calls.fetch(calls.link(item, "patch", "scores_url"), format="npy")))

    def output(self, item: Item, name: str) -> bytes:
        """An array of an item as the file that it is kept as: .npy, or .safetensors of activations."""
        return self._send(calls.fetch(calls.output_path(item, name)))

    def overlay(
        self,
        item: Item,
        *,
        layer: int | None = None,
        label: str | None = None,
        of: str = "patch",
        **choice: Any,
    ) -> bytes:
        """The picture under the map of a layer and label, as PNG; `of` another output than `patch`."""
        path = calls.link(item, of, "overlay_url")
        return self._send(calls.fetch(path, layer=layer, label=label, **choice))

    def heatmap(
        self,
        item: Item,
        *,
        layer: int | None = None,
        label: str | None = None,
        of: str = "patch",
        **choice: Any,
    ) -> bytes:
        """The map alone, to be laid over the picture, as PNG."""
        path = calls.link(item, of, "heatmap_url")
        return self._send(calls.fetch(path, layer=layer, label=label, **choice))

    def thumbnail(self, item: Item, *, of: str = "patch") -> bytes:
        """The picture as overlays show it, as JPEG."""
        return self._send(calls.fetch(calls.link(item, of, "thumbnail_url")))

    def download(
        self,
        job: Job | str,
        target: str | os.PathLike[str],
        format: str | None = None,  # noqa: A002 - as on the wire
    ) -> Path:
        """All results as a file (.parquet, .npz, .ndjson); goes on with what an earlier try left.

        Raises:
            ValueError: the name's end says no format, and none was given.
        """
        file = Download(target, format)
        for number in range(self._retries.times + 1):
            response = self._run(flows.open_results(job, file))
            if response is None:
                break
            try:
                with closing(response), file.begin(response):
                    for chunk in response.iter_bytes():
                        file.write(chunk)
                    file.finish()
            except httpx.TransportError as error:
                if number == self._retries.times:
                    raise unreachable(error) from error
            if file.is_whole:
                break
        return file.target

    def events(self, job: Job | str, last_event_id: str | None = None) -> Iterator[Event]:
        """A job's news until it is done; after a lost connection goes on behind the last that was seen."""
        reader = EventReader(last_event_id)
        while not reader.is_done:
            response = self._send(calls.open_events(job, reader.last_id))
            with closing(response):
                if response.status_code == httpx.codes.NO_CONTENT:
                    return  # all of it was heard
                try:
                    for chunk in response.iter_bytes():
                        yield from reader.feed(chunk)
                except httpx.TransportError:
                    pass  # it is opened again
            if not reader.is_done:
                reader.reopen()
                time.sleep(reader.pause_s)

    def cancel(self, job: Job | str) -> Job:
        """Drop what waits of a job; what was done is kept. May be sent as often as one likes."""
        return self._send(calls.cancel_job(job))

    def retry(
        self, job: Job | str, scope: str = "failed_items", *, idempotency_key: str | None = None
    ) -> Job:
        """Queue what failed of a job again, as a new job; with the scope `all`, all of it."""
        return self._send(calls.retry_job(job, scope, idempotency_key))

    def delete(self, job: Job | str) -> None:
        """Delete a job that ended, with its results."""
        self._send(calls.delete_job(job))

    def count_jobs(self, action: Verb, **jobs: Unpack[JobFilter]) -> int:
        """How many jobs an action would be about; nothing is done."""
        return self._send(calls.count_jobs(action, jobs))

    def act_on_jobs(
        self,
        action: Verb,
        expected_count: int,
        *,
        reason: str | None = None,
        idempotency_key: str | None = None,
        **jobs: Unpack[JobFilter],
    ) -> Action:
        """Have all jobs that a filter finds cancelled, tried again or deleted, in the background.

        Raises:
            ConflictError: they are not `expected_count`, as `count_jobs` told, by now.
        """
        return self._send(calls.create_action(action, jobs, expected_count, reason, idempotency_key))

    def action(self, action: Action | str) -> Action:
        """An action as it is now."""
        return self._send(calls.get_action(action))

    def actions(self, *, page_size: int = PAGE_ITEMS) -> Iterator[Action]:
        """Actions, newest first, page by page."""
        token: str | None = None
        while True:
            page = self._send(calls.list_actions(page_size, token))
            yield from page.items
            if (token := page.token) is None:
                return

    def wait_for_action(self, action: Action | str, timeout: float | None = None) -> Action:
        """The action once each of its jobs is done or skipped.

        Raises:
            ActionTimeoutError: it was not in the time given; it goes on.
        """
        return self._run(flows.wait_for_action(action, timeout))

    def upload(self, images: Iterable[Picture] | Picture) -> list[str]:
        """Keep pictures, to be named in many jobs; their ids, in order.

        Raises:
            InvalidRequestError: one of them is no picture; of those sent with it none is kept.
        """
        return self._run(flows.upload(parts_of(images), self._retries))

    def models(self) -> list[Model]:
        """Every model that jobs may name, with who serves it and what waits."""
        return self._send(calls.list_models())

    def model(self, name: str) -> Model:
        """One model."""
        return self._send(calls.get_model(name))

    def workers(self) -> list[Worker]:
        """The workers of the last day."""
        return self._send(calls.list_workers())

    def usage(self, **filters: Any) -> dict[str, Any]:
        """What this key used."""
        return cast("dict[str, Any]", self._send(calls.get_json("/v1/usage", **filters)))

    def queues(self) -> list[Queue]:
        """What waits for each model that was ever used, of everybody."""
        return self._send(calls.list_queues())

    def pause_queue(self, model: str) -> Queue:
        """Let nothing more of a model be claimed (scope admin)."""
        return self._send(calls.change_queue(model, "pause"))

    def resume_queue(self, model: str) -> Queue:
        """Let a paused queue go on (scope admin)."""
        return self._send(calls.change_queue(model, "resume"))

    def drain_worker(self, worker: Worker | str) -> Worker:
        """Let a worker finish what it holds and claim no more (scope admin)."""
        return self._send(calls.drain_worker(worker))

    def reproduce(self, job: Job | str) -> Reproduction:
        """The body that made a job, and a script that computes its last layer without us."""
        return reproduction.reproduction_of(self.job(job), self._send(calls.get_request(job)))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, call: Call[Result]) -> Result:
        return self._run(flows.once(call, self._retries))

    def _run(self, flow: Flow[Result]) -> Result:
        try:
            step = next(flow)
            while True:
                if step.failure and self._on_retry:
                    self._on_retry(step.failure, step.after_s)
                time.sleep(step.after_s)
                try:
                    response = self._http.send(step.call.request(self._http), stream=step.call.stream)
                    if step.call.stream and response.is_error:
                        response.read()
                except httpx.TransportError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(response)
        except StopIteration as end:
            return cast("Result", end.value)
