"""Pictures by URL: fetched with a submit, a few at a time, within the bounds of any other upload."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import httpx
from starlette.datastructures import UploadFile

from api.errors import UploadsBusyError
from api.spool import Hold
from api.turns import Turns
from api.uploads import Upload, open_spool
from jobs.egress import Bounds, Egress
from jobs.errors import DomainError, UrlRefusedError, UrlTooLargeError, UrlUnreachableError
from jobs.remote import Remote, Unfetched

MAX_REDIRECTS: Final = 3
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
OK: Final = 200
HEADERS: Final = {"Accept": "image/*, application/octet-stream;q=0.5", "User-Agent": "lensqueue"}


@dataclass(frozen=True, slots=True)
class FetchBounds:
    """How long one picture may take and all of a job, and how many bytes each may have and all of them.

    `at_once` are fetched at a time, of all jobs that this process is given, and half of these for one tenant:
    each is held in memory until it is there.
    """

    picture_seconds: float = 10.0
    job_seconds: float = 60.0
    picture_bytes: int = 32 * 2**20
    job_bytes: int = 256 * 2**20
    at_once: int = 4


class Fetcher:
    """Fetches what URLs of clients name, to where the rules of its egress allow."""

    def __init__(self, egress: Egress, bounds: FetchBounds) -> None:
        self._egress = egress
        self._bounds = bounds
        self._turns = Turns(bounds.at_once)

    async def fetch(self, hold: Hold, uploads: Sequence[Upload]) -> list[Upload]:
        """The uploads with what their URLs name in the place of these, or why it is not to be had.

        Raises:
            UploadsBusyError: what came has no room beside all other bodies.
        """
        budget = Budget(self._bounds.job_bytes)
        deadline = asyncio.get_running_loop().time() + self._bounds.job_seconds
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._fetched(hold, upload, budget, deadline)) for upload in uploads
                ]
        except BaseExceptionGroup as failed:
            # the first one: for it the others were cancelled
            raise failed.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _fetched(self, hold: Hold, upload: Upload, budget: "Budget", deadline: float) -> Upload:
        if not isinstance(upload.source, Remote):
            return upload
        try:
            async with asyncio.timeout_at(deadline):
                return replace(upload, source=await self._take_turn(hold, upload.source.url, budget))
        except TimeoutError:
            late = UrlUnreachableError(
                f"The pictures of this job were not all fetched within {self._bounds.job_seconds:g} s."
            )
            return replace(upload, source=_unfetched(upload.source.url, late))
        except UploadsBusyError:
            # no fault of the picture's: the job can be sent again
            raise
        except DomainError as error:
            return replace(upload, source=_unfetched(upload.source.url, error))

    async def _take_turn(self, hold: Hold, url: str, budget: "Budget") -> UploadFile:
        async with self._turns.one(hold.tenant):
            budget.check()
            try:
                async with asyncio.timeout(self._bounds.picture_seconds):
                    data = await self._get(url)
            except TimeoutError:
                raise UrlUnreachableError(
                    f"It was not fetched within {self._bounds.picture_seconds:g} s."
                ) from None
            budget.take(len(data))
            hold.grow_by(len(data))
            return await _spool(data)

    async def _get(self, url: str) -> bytes:
        """The picture, from wherever the URL leads on to; every address on the way is checked.

        Raises:
            UrlRefusedError, UrlUnreachableError, UrlTooLargeError: it is not to be had.
        """
        bounds = Bounds(total_seconds=self._bounds.picture_seconds, answer_bytes=self._bounds.picture_bytes)
        for _ in range(1 + MAX_REDIRECTS):
            answer = await self._egress.send("GET", url, headers=HEADERS, bounds=bounds)
            target = answer.headers.get("Location")
            if answer.status in REDIRECTS and target:
                url = _join(url, target)
                continue
            if answer.status != OK:
                raise UrlUnreachableError(f"The URL was answered with status {answer.status}, not {OK}.")
            if not answer.whole:
                raise UrlTooLargeError(f"It has more than {bounds.answer_bytes} bytes, the limit.")
            return answer.body
        raise UrlUnreachableError(f"The URL leads on more than {MAX_REDIRECTS} times.")


class Budget:
    """The bytes that are left to the pictures of one job."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._left = most

    def check(self) -> None:
        """Refuse to fetch more once it is used up.

        Raises:
            UrlTooLargeError: it is.
        """
        if self._left <= 0:
            raise UrlTooLargeError(f"The pictures fetched for one job may have {self._most} bytes in all.")

    def take(self, size: int) -> None:
        """Use some of it; of what does not fit, nothing is kept.

        Raises:
            UrlTooLargeError: so much is not left.
        """
        self._left -= size
        if self._left < 0:
            self.check()


def _join(url: str, target: str) -> str:
    try:
        return str(httpx.URL(url).join(target))
    except (httpx.InvalidURL, UnicodeError, ValueError):
        raise UrlRefusedError("The URL leads on to something that is no URL.") from None


def _unfetched(url: str, error: DomainError) -> Unfetched:
    return Unfetched(url, error.code, error.message)


async def _spool(data: bytes) -> UploadFile:
    spooled = open_spool()
    await spooled.write(data)
    return spooled
