"""What `AsyncClient` does with image sets, to be awaited, or iterated with `async for`."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Final, TypeVar, Unpack

import httpx

from lensqueue_client import flows, set_calls, set_flows, submissions
from lensqueue_client.downloads import Download
from lensqueue_client.errors import unreachable
from lensqueue_client.set_flows import PAGE_ITEMS

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping
    from pathlib import Path

    from lensqueue_client.calls import Call
    from lensqueue_client.flows import Flow, Retries
    from lensqueue_client.jobs import Job
    from lensqueue_client.pictures import Picture
    from lensqueue_client.sets import (
        Added,
        FolderAdded,
        Found,
        ImageSet,
        ImageSetVersion,
        NewItem,
        SearchOptions,
        SetItem,
    )
    from lensqueue_client.submissions import Labels, LensOptions

Result = TypeVar("Result")
PAGE_SETS: Final = 100


class AsyncSetMethods:
    """To be inherited by what sends: `AsyncClient`."""

    if TYPE_CHECKING:
        _retries: Retries
        _http: httpx.AsyncClient

        async def _send(self, call: Call[Result]) -> Result: ...

        async def _run(self, flow: Flow[Result]) -> Result: ...

    async def create_set(
        self,
        name: str,
        *,
        source: str = "",
        licence: str = "",
        notes: str = "",
        idempotency_key: str | None = None,
    ) -> ImageSet:
        """Make an empty image set; add pictures to it, then seal it."""
        said = {"name": name, "source": source, "licence": licence, "notes": notes}
        return await self._send(set_calls.create_set(said, idempotency_key))

    async def image_sets(self, *, page_size: int = PAGE_SETS) -> AsyncIterator[ImageSet]:
        """Image sets, newest first, page by page."""
        token: str | None = None
        while True:
            page = await self._send(set_calls.list_sets(page_size, token))
            for each in page.items:
                yield each
            if (token := page.token) is None:
                return

    async def image_set(self, image_set: ImageSet | str) -> ImageSet:
        """An image set as it is now, with its newest versions."""
        return await self._send(set_calls.get_set(image_set))

    async def change_set(
        self,
        image_set: ImageSet | str,
        *,
        name: str | None = None,
        source: str | None = None,
        licence: str | None = None,
        notes: str | None = None,
    ) -> ImageSet:
        """Change what is said of an image set; its versions stay as they are."""
        changes = {"name": name, "source": source, "licence": licence, "notes": notes}
        return await self._send(set_calls.change_set(image_set, changes))

    async def delete_set(self, image_set: ImageSet | str) -> None:
        """Delete an image set with its versions; jobs over it and its pictures stay."""
        await self._send(set_calls.delete_set(image_set))

    async def add_items(self, image_set: ImageSet | str, items: Iterable[NewItem | Picture]) -> Added | None:
        """Add pictures in their order, by their ids or as files, some at a time; None where there are none.

        What cannot be read as a picture is an item too, with its error; the answer tells of all.

        Raises:
            InvalidRequestError: a custom_id is in the set already, or an id is unknown.
        """
        return await self._run(set_flows.add(image_set, items, self._retries))

    async def add_folder(
        self,
        image_set: ImageSet | str,
        folder: str | os.PathLike[str],
        *,
        labels_from_folders: bool = False,
        on_progress: Callable[[FolderAdded], object] | None = None,
    ) -> FolderAdded:
        """Add the pictures of a folder, and of those inside it, that the set does not have yet.

        A picture goes by its path from the folder on, "cats/a.jpg" for one, and its true label can be the
        name of the folder that it lies in. Called again it goes on where it was.
        """
        return await self._run(
            set_flows.add_folder(
                image_set, folder, self._retries, on_progress, labels_from_folders=labels_from_folders
            )
        )

    async def seal(self, image_set: ImageSet | str) -> ImageSetVersion:
        """Seal the open version of a set, or find the one that was sealed last: it never changes again.

        Raises:
            ConflictError: it holds no picture.
        """
        return await self._send(set_calls.seal_set(image_set))

    async def version(self, version: ImageSetVersion | str) -> ImageSetVersion:
        """A version as it is now."""
        return await self._send(set_calls.get_version(version))

    async def numbered_version(self, image_set: ImageSet | str, number: int) -> ImageSetVersion:
        """A version of a set by its number, from 1."""
        return await self._send(set_calls.get_numbered_version(image_set, number))

    async def set_items(
        self, version: ImageSetVersion | str, *, failed: bool = False, page_size: int = PAGE_ITEMS
    ) -> AsyncIterator[SetItem]:
        """The items of a version by index, page by page; with `failed`, only those that are no picture."""
        token: str | None = None
        while True:
            page = await self._send(set_calls.list_set_items(version, page_size, token, failed=failed))
            for each in page.items:
                yield each
            if (token := page.token) is None:
                return

    async def download_manifest(self, version: ImageSetVersion | str, target: str | os.PathLike[str]) -> Path:
        """The manifest of a sealed version, JSON Lines, as a file; its SHA-256 is `manifest_sha256`."""
        file = Download(target, "ndjson")
        for number in range(self._retries.times + 1):
            response = await self._run(flows.attempt(set_calls.open_manifest(version), self._retries))
            try:
                async with aclosing(response):
                    with file.begin(response):
                        async for chunk in response.aiter_bytes():
                            file.write(chunk)
                        file.finish()
                break
            except httpx.TransportError as error:
                if number == self._retries.times:
                    raise unreachable(error) from error
        return file.target

    async def ingest(
        self,
        image_set: ImageSet | str,
        archive: str | os.PathLike[str] | None = None,
        *,
        manifest: str | os.PathLike[str] | None = None,
        folder_labels: bool = False,
        tags: Mapping[str, str] | None = None,
        on_progress: Callable[[int, int], object] | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Send an archive (zip, tar, tar.gz), a manifest (CSV, JSON Lines) or both; the job that adds them.

        Files are read from the disk as they are sent. `on_progress` hears of how many bytes of the first were
        sent, of how many. With `folder_labels` the folder that a picture lies in names its true label.
        """
        files = {"archive": archive, "manifest": manifest}
        options = {"folder_labels": folder_labels, "tags": dict(tags or {})}
        flow = set_flows.ingest(image_set, files, options, self._retries, on_progress, idempotency_key)
        return await self._run(flow)

    async def ingest_prefix(
        self,
        image_set: ImageSet | str,
        prefix: str,
        *,
        folder_labels: bool = False,
        tags: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Have what lies under a prefix of S3 added, `s3://bucket/folder/`; the job that adds it."""
        options = {"folder_labels": folder_labels, "tags": dict(tags or {})}
        return await self._send(set_calls.ingest_prefix(image_set, prefix, options, idempotency_key))

    async def search(
        self,
        version: ImageSetVersion | str,
        text: str | None = None,
        *,
        image: Picture | None = None,
        like_index: int | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - as that of the other client
        **options: Unpack[SearchOptions],
    ) -> Found:
        """The items nearest to a text, to a picture, or to one of them, by what a summarised job embedded.

        Raises:
            ConflictError: no job over the version was summarised yet.
            WaitTimeoutError: what is looked for was not embedded in so many seconds.
        """
        wanted = {"text": text, "like_index": like_index, **options}
        read_timeout_s = self._http.timeout.read
        flow = set_flows.search(version, wanted, image, self._retries, timeout, read_timeout_s)
        return await self._run(flow)

    async def submit_lens_over(
        self,
        version: ImageSetVersion | str,
        labels: Labels,
        model: str | None = None,
        **options: Unpack[LensOptions],
    ) -> Job:
        """Queue a logit lens over all items of a sealed version; its results are by their indexes."""
        return await self._send(submissions.lens_over(version, labels, model, options))

    async def summarise(
        self,
        job: Job | str,
        seed: int = 0,
        *,
        compare_with: Job | str | None = None,
        same_truth: Mapping[str, str] | None = None,
        drift_from: Job | str | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Queue a summary of a lens over an image set that has ended; its files are fetched one by one.

        In it the job may be compared with another one over the version, and its version with that of
        another job, see `compare` and `drift`.
        """
        said = {
            "seed": seed,
            "compare_with": compare_with,
            "same_truth": None if same_truth is None else dict(same_truth),
            "drift_from": drift_from,
        }
        return await self._send(set_calls.summarise(job, said, idempotency_key))

    async def compare(
        self,
        job: Job | str,
        other: Job | str,
        *,
        same_truth: Mapping[str, str] | None = None,
        seed: int = 0,
        idempotency_key: str | None = None,
    ) -> Job:
        """Queue a comparison of two ended lenses over one version: `comparison.json` and `report.html`.

        `same_truth` says for labels of `other` which of `job` mean the same, where their names differ.
        """
        said = {"same_truth": dict(same_truth or {}), "seed": seed}
        return await self._send(set_calls.compare(job, other, said, idempotency_key))

    async def drift(
        self, job: Job | str, reference: Job | str, *, seed: int = 0, idempotency_key: str | None = None
    ) -> Job:
        """Queue how far the version of one lens lies from that of another: `drift.json` and `report.html`."""
        return await self._send(set_calls.drift(job, reference, {"seed": seed}, idempotency_key))

    async def fetch_file(self, job: Job | str, name: str, target: str | os.PathLike[str]) -> Path:
        """A file that a job made, such as `summary.json`; goes on with what an earlier try left."""
        file = Download(target, name)
        for number in range(self._retries.times + 1):
            response = await self._run(flows.open_file(job, name, file))
            if response is None:
                break
            try:
                async with aclosing(response):
                    with file.begin(response):
                        async for chunk in response.aiter_bytes():
                            file.write(chunk)
                        file.finish()
                break
            except httpx.TransportError as error:
                if number == self._retries.times:
                    raise unreachable(error) from error
        return file.target
