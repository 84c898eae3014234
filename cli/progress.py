"""Following a job at the terminal."""

from itertools import islice
from typing import Final

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from cli.console import notes
from lensqueue_client import Client, Job

MOST_LOOKED_AT: Final = 1_000


def bar(title: str) -> Progress:
    """A bar with a title, on stderr; nothing where that is no terminal."""
    columns = (TextColumn(title.ljust(10)), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=notes, disable=not notes.is_terminal)


def bar_of_bytes(title: str) -> Progress:
    """The same, of bytes and how many come a second."""
    columns = (TextColumn(title.ljust(10)), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, TimeRemainingColumn(), console=notes, disable=not notes.is_terminal)


def follow(client: Client, job: Job | str, title: str = "Job", timeout: float | None = None) -> Job:
    """The job once it has ended; a bar meanwhile, and a line whenever it waits for something else."""
    told: str | None = None
    with bar(title) as shown:
        task = shown.add_task("", total=None)

        def tell(seen: Job) -> None:
            nonlocal told
            progress = seen.progress
            settled = progress.succeeded + progress.failed + progress.dropped
            shown.update(task, total=progress.total, completed=settled)
            waits_for = None if seen.waiting_for is None else seen.waiting_for.message
            if waits_for is not None and waits_for != told:
                notes.print(f"{seen.id} waits: {waits_for}", markup=False, soft_wrap=True)
            told = waits_for

        return client.wait(job, timeout, tell)


def say_end(client: Client, job: Job) -> None:
    """How a job ended, in a line, and what to do about what did not succeed in another."""
    progress = job.progress
    counts = f"{progress.succeeded} of {progress.total} succeeded"
    others = [
        f"{count} {what}"
        for what, count in (("failed", progress.failed), ("dropped", progress.dropped))
        if count
    ]
    why = f": {job.error.message}" if job.error else ""
    notes.print(f"{job.id} {job.state}; {', '.join([counts, *others])}{why}", markup=False, soft_wrap=True)
    hints = []
    if progress.failed:
        hints.append(f"see why with `lensqueue results {job.id}`")
    if progress.dropped or (progress.failed and _may_succeed(client, job)):
        what = "do the rest" if progress.dropped else "try those again"
        hints.append(f"{what} with `lensqueue retry {job.id}`")
    if hints:
        said = "; ".join(hints)
        notes.print(f"{said[0].upper()}{said[1:]}.", soft_wrap=True)


def _may_succeed(client: Client, job: Job) -> bool:
    """Whether any item failed for a cause that passes: pictures that are broken stay so."""
    if job.error is not None:
        return job.error.retryable
    # of one that succeeded in part, only its items know; of a large one it is not worth to read them all
    looked_at = islice(client.results(job), MOST_LOOKED_AT)
    failed = [item.error for item in looked_at if item.error is not None]
    return any(error.retryable for error in failed) or len(failed) < job.progress.failed
