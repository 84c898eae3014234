"""What can go wrong, one class a situation that a caller may want to catch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lensqueue_client.actions import Action
    from lensqueue_client.jobs import Job

MAX_TEXT = 500
"""Of an answer that is no problem document, a proxy's page for one, so many characters are told."""


class LensqueueError(Exception):
    """Root of the tree: `code` is stable, `message` is for people."""

    def __init__(
        self,
        message: str,
        *,
        code: str = "client",
        status: int | None = None,
        request_id: str | None = None,
        errors: Sequence[dict[str, Any]] = (),
        retry_after_s: float | None = None,
    ) -> None:
        """Keep what is known of the fault; `errors` are the parts of a request that were refused."""
        super().__init__(message)
        self.message = message
        self.code = code
        self.status = status
        self.request_id = request_id
        self.errors = list(errors)
        self.retry_after_s = retry_after_s


class ConfigurationError(LensqueueError):
    """No key was found, or the address is none."""


class RefusedError(LensqueueError):
    """The service understood the request and refused it: sent again, it is refused again."""


class AuthenticationError(RefusedError):
    """No key, or one that is unknown, revoked or expired."""


class PermissionDeniedError(RefusedError):
    """The key may not do that."""


class NotFoundError(RefusedError):
    """There is nothing of that id for this key."""


class GoneError(NotFoundError):
    """It was there, and was removed: results after `result_ttl_s`, a job by whoever deleted it."""


class ConflictError(RefusedError):
    """Not in the state that this needs; `code` says which: `already-ended`, for one."""


class InvalidRequestError(RefusedError):
    """The request does not say what it must; `errors` point at the places."""


class RateLimitedError(RefusedError):
    """Too much of this key at once, still after the retries; `retry_after_s` says when to try again."""


class ServiceError(LensqueueError):
    """The service failed."""


class UnavailableError(ServiceError):
    """The service takes nothing at the moment, still after the retries."""


class UnreachableError(UnavailableError):
    """Nothing answers at the address, or the connection was lost, still after the retries."""


class JobFailedError(LensqueueError):
    """The job ended without anything that succeeded; `job` is as it ended."""

    def __init__(self, job: Job) -> None:
        """Say why, as far as the job knows."""
        why = job.error.message if job.error else f"it ended {job.state}"
        super().__init__(f"{job.id}: {why}", code=job.error.code if job.error else "job-failed")
        self.job = job


class JobNotEndedError(LensqueueError):
    """The job has not ended, and a part of its numbers was not asked for; `job` is as it was last seen."""

    def __init__(self, job: Job) -> None:
        """Say how far it is, and what to do."""
        settled = job.progress.succeeded + job.progress.failed
        done = f"{settled} of {counted(job.progress.total, 'item')} done"
        super().__init__(
            f"{job.id} is {job.state}, {done}: `wait` for it, or say partial=True for what there is so far",
            code="not-ended",
        )
        self.job = job


class WaitTimeoutError(LensqueueError, TimeoutError):
    """The job did not end in the time that was given; it goes on, `job` is as it was last seen."""

    def __init__(self, job: Job) -> None:
        """Say how far it is."""
        done = job.progress.succeeded + job.progress.failed + job.progress.dropped
        why = f"; it waits: {job.waiting_for.message}" if job.waiting_for else ""
        super().__init__(
            f"{job.id}: {done} of {counted(job.progress.total, 'item')} in time{why}", code="wait-timeout"
        )
        self.job = job


class ActionTimeoutError(LensqueueError, TimeoutError):
    """The action did not end in the time that was given; it goes on, `action` is as it was last seen."""

    def __init__(self, action: Action) -> None:
        """Say how far it is."""
        seen = action.done + action.skipped
        super().__init__(
            f"{action.id}: {seen} of {counted(action.matched, 'job')} in time", code="wait-timeout"
        )
        self.action = action


_BY_STATUS: dict[int, type[LensqueueError]] = {
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: UnavailableError,
    409: ConflictError,
    410: GoneError,
    429: RateLimitedError,
    502: UnavailableError,
    503: UnavailableError,
    504: UnavailableError,
}
_SERVER = 500


def error_of(response: httpx.Response) -> LensqueueError:
    """The error that an answer is, whose body was read."""
    status = response.status_code
    fallback = ServiceError if status >= _SERVER else InvalidRequestError
    problem = _problem(response)
    return _BY_STATUS.get(status, fallback)(
        str(problem.get("detail") or problem.get("title") or f"HTTP {status}"),
        code=str(problem.get("code") or f"http-{status}"),
        status=status,
        request_id=problem.get("request_id") or response.headers.get("X-Request-Id"),
        errors=problem.get("errors") or (),
        retry_after_s=seconds(response.headers.get("Retry-After")),
    )


def counted(count: int, what: str) -> str:
    """So many of them, as people say it."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def unreachable(error: httpx.TransportError) -> UnreachableError:
    """The error that a lost or refused connection is."""
    url = error.request.url
    where = f"{url.scheme}://{url.netloc.decode('ascii')}"
    is_deaf = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
    what = "nothing answers at" if is_deaf else "no whole answer came from"
    found = UnreachableError(f"{what} {where}: {str(error) or type(error).__name__}", code="unreachable")
    found.__cause__ = error
    return found


def _problem(response: httpx.Response) -> dict[str, Any]:
    try:
        problem = response.json()
    except ValueError:
        return {"detail": response.text[:MAX_TEXT]}
    return problem if isinstance(problem, dict) else {}


def seconds(value: str | None) -> float | None:
    """The number of a `Retry-After`."""
    # the other form, a date, our service does not send
    return float(value) if value is not None and value.isascii() and value.isdigit() else None
