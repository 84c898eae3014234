"""The client for asyncio: the methods of `Client`, to be awaited, or iterated with `async for`."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, cast

import httpx

from lensqueue_client import calls, flows, reproduction, submissions
from lensqueue_client.arrays import Rows, labelled
from lensqueue_client.async_set_methods import AsyncSetMethods
from lensqueue_client.configuration import configure
from lensqueue_client.downloads import Download
from lensqueue_client.errors import unreachable
from lensqueue_client.events import Event, EventReader
from lensqueue_client.flows import Flow, Retries
from lensqueue_client.numbers import read_npy
from lensqueue_client.pictures import Picture, parts_of

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
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


class AsyncClient(AsyncSetMethods):
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
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        found = configure(base_url, api_key)
        self._retries = retries or Retries()
        self._on_retry = on_retry
        self._http = httpx.AsyncClient(
            base_url=found.url, headers=found.headers(), timeout=timeout, transport=transport
        )

    async def submit_lens(
        self,
        images: Iterable[Picture] | Picture,
        labels: Labels,
        model: str | None = None,
        **options: Unpack[LensOptions],
    ) -> Job:
        """Queue a logit lens: each layer of each picture, scored against the labels."""
        return await self._send(submissions.lens(images, labels, model, options))

    async def submit_embedding(
        self,
        images: Iterable[Picture] | Picture = (),
        *,
        texts: Sequence[str] | str = (),
        model: str | None = None,
        **options: Unpack[EmbeddingOptions],
    ) -> Job:
        """Queue embeddings of pictures or of texts."""
        return await self._send(submissions.embedding(images, texts, model, options))

    async def rescore(self, job: Job | str, labels: Labels, **options: Unpack[RescoreOptions]) -> Job:
        """Queue other labels on what a job kept by the output `embeddings`: no forward pass."""
        return await self._send(submissions.rescore(job, labels, options))

    async def submit(
        self,
        body: Mapping[str, Any],
        images: Iterable[Picture] | Picture = (),
        *,
        idempotency_key: str | None = None,
    ) -> Job:
        """Queue a job whose body is written out."""
        return await self._send(submissions.raw(body, images, idempotency_key))

    async def dry_run(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """What a body would cost; nothing is queued."""
        return await self._send(submissions.dry_run(body))

    async def job(self, job: Job | str) -> Job:
        """A job as it is now."""
        return await self._send(calls.get_job(job))

    async def wait(
        self,
        job: Job | str,
        timeout: float | None = None,  # noqa: ASYNC109 - the service is asked to wait so long, nothing is cancelled
        on_progress: Callable[[Job], object] | None = None,
    ) -> Job:
        """The job once it is done, however that is; `on_progress` hears of it first and at every change.

        Raises:
            WaitTimeoutError: it was not done in the time given; it goes on.
        """
        return await self._run(flows.wait(job, timeout, on_progress, self._http.timeout.read))

    async def jobs(self, *, page_size: int = PAGE_ITEMS, **filters: Any) -> AsyncIterator[Job]:
        """Jobs, newest first, page by page, chosen by `state`, `type`, `model`, `tag`, `created_after`."""
        token: str | None = None
        while True:
            page = await self._send(calls.list_jobs({"limit": page_size, **filters}, token))
            for each in page.items:
                yield each
            if (token := page.token) is None:
                return

    async def results(self, job: Job | str, *, page_size: int = PAGE_ITEMS) -> AsyncIterator[Item]:
        """The items that have results so far, page by page; failed ones say why."""
        token: str | None = None
        while True:
            page = await self._send(calls.list_results(job, page_size, token))
            for each in page.items:
                yield each
            if (token := page.token) is None:
                return

    async def item(self, job: Job | str, index: int) -> Item:
        """One item."""
        return await self._send(calls.get_item(job, index))

    async def to_numpy(self, job: Job | str, *, partial: bool = False) -> JobArrays:
        """All numbers of a job in memory, axes item, layer, label; `partial`: of the items done so far.

        Raises:
            JobNotEndedError: it has not ended, and `partial` was not said.
        """
        await self._run(flows.ended(job, self._retries, partial=partial))
        rows = Rows()
        async for item in self.results(job):
            rows.add(item)
        return rows.arrays()

    async def job_array(self, job: Job | str, *, partial: bool = False) -> Any:
        """The same with named axes: an xarray.Dataset where xarray is installed, else as `to_numpy`."""
        return labelled(await self.to_numpy(job, partial=partial))

    async def scores(self, item: Item) -> NDArray[np.float32]:
        """Patch scores of an item [layer, label, row, col]."""
        return read_npy(await self._send(calls.fetch(calls.link(item, "patch", "scores_url"), format="npy")))

    async def output(self, item: Item, name: str) -> bytes:
        """An array of an item as the file that it is kept as: .npy, or .safetensors of activations."""
        return await self._send(calls.fetch(calls.output_path(item, name)))

    async def overlay(
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
        return await self._send(calls.fetch(path, layer=layer, label=label, **choice))

    async def heatmap(
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
        return await self._send(calls.fetch(path, layer=layer, label=label, **choice))

    async def thumbnail(self, item: Item, *, of: str = "patch") -> bytes:
        """The picture as overlays show it, as JPEG."""
        return await self._send(calls.fetch(calls.link(item, of, "thumbnail_url")))

    async def download(
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
            response = await self._run(flows.open_results(job, file))
            if response is None:
                break
            try:
                async with aclosing(response):
                    with file.begin(response):
                        async for chunk in response.aiter_bytes():
                            file.write(chunk)
                        file.finish()
            except httpx.TransportError as error:
                if number == self._retries.times:
                    raise unreachable(error) from error
            if file.is_whole:
                break
        return file.target

    async def events(self, job: Job | str, last_event_id: str | None = None) -> AsyncIterator[Event]:
        """A job's news until it is done; after a lost connection goes on behind the last that was seen."""
        reader = EventReader(last_event_id)
        while not reader.is_done:
            response = await self._send(calls.open_events(job, reader.last_id))
            async with aclosing(response):
                if response.status_code == httpx.codes.NO_CONTENT:
                    return  # all of it was heard
                try:
                    async for chunk in response.aiter_bytes():
                        for event in reader.feed(chunk):
                            yield event
                except httpx.TransportError:
                    pass  # it is opened again
            if not reader.is_done:
                reader.reopen()
                await asyncio.sleep(reader.pause_s)

    async def cancel(self, job: Job | str) -> Job:
        """Drop what waits of a job; what was done is kept. May be sent as often as one likes."""
        return await self._send(calls.cancel_job(job))

    async def retry(
        self, job: Job | str, scope: str = "failed_items", *, idempotency_key: str | None = None
    ) -> Job:
        """Queue what failed of a job again, as a new job; with the scope `all`, all of it."""
        return await self._send(calls.retry_job(job, scope, idempotency_key))

    async def delete(self, job: Job | str) -> None:
        """Delete a job that ended, with its results."""
        await self._send(calls.delete_job(job))

    async def count_jobs(self, action: Verb, **jobs: Unpack[JobFilter]) -> int:
        """How many jobs an action would be about; nothing is done."""
        return await self._send(calls.count_jobs(action, jobs))

    async def act_on_jobs(
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
        return await self._send(calls.create_action(action, jobs, expected_count, reason, idempotency_key))

    async def action(self, action: Action | str) -> Action:
        """An action as it is now."""
        return await self._send(calls.get_action(action))

    async def actions(self, *, page_size: int = PAGE_ITEMS) -> AsyncIterator[Action]:
        """Actions, newest first, page by page."""
        token: str | None = None
        while True:
            page = await self._send(calls.list_actions(page_size, token))
            for each in page.items:
                yield each
            if (token := page.token) is None:
                return

    async def wait_for_action(
        self,
        action: Action | str,
        timeout: float | None = None,  # noqa: ASYNC109 - it ends the asking, nothing is cancelled
    ) -> Action:
        """The action once each of its jobs is done or skipped.

        Raises:
            ActionTimeoutError: it was not in the time given; it goes on.
        """
        return await self._run(flows.wait_for_action(action, timeout))

    async def upload(self, images: Iterable[Picture] | Picture) -> list[str]:
        """Keep pictures, to be named in many jobs; their ids, in order.

        Raises:
            InvalidRequestError: one of them is no picture; of those sent with it none is kept.
        """
        return await self._run(flows.upload(parts_of(images), self._retries))

    async def models(self) -> list[Model]:
        """Every model that jobs may name, with who serves it and what waits."""
        return await self._send(calls.list_models())

    async def model(self, name: str) -> Model:
        """One model."""
        return await self._send(calls.get_model(name))

    async def workers(self) -> list[Worker]:
        """The workers of the last day."""
        return await self._send(calls.list_workers())

    async def usage(self, **filters: Any) -> dict[str, Any]:
        """What this key used."""
        return cast("dict[str, Any]", await self._send(calls.get_json("/v1/usage", **filters)))

    async def queues(self) -> list[Queue]:
        """What waits for each model that was ever used, of everybody."""
        return await self._send(calls.list_queues())

    async def pause_queue(self, model: str) -> Queue:
        """Let nothing more of a model be claimed (scope admin)."""
        return await self._send(calls.change_queue(model, "pause"))

    async def resume_queue(self, model: str) -> Queue:
        """Let a paused queue go on (scope admin)."""
        return await self._send(calls.change_queue(model, "resume"))

    async def drain_worker(self, worker: Worker | str) -> Worker:
        """Let a worker finish what it holds and claim no more (scope admin)."""
        return await self._send(calls.drain_worker(worker))

    async def reproduce(self, job: Job | str) -> Reproduction:
        """The body that made a job, and a script that computes its last layer without us."""
        return reproduction.reproduction_of(await self.job(job), await self._send(calls.get_request(job)))

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _send(self, call: Call[Result]) -> Result:
        return await self._run(flows.once(call, self._retries))

    async def _run(self, flow: Flow[Result]) -> Result:
        try:
            step = next(flow)
            while True:
                if step.failure and self._on_retry:
                    self._on_retry(step.failure, step.after_s)
                await asyncio.sleep(step.after_s)
                try:
                    response = await self._http.send(step.call.request(self._http), stream=step.call.stream)
                    if step.call.stream and response.is_error:
                        await response.aread()
                except httpx.TransportError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(response)
        except StopIteration as end:
            return cast("Result", end.value)
