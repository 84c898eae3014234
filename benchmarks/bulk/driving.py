"""What is measured of the whole service: workers of their own, sets filled over HTTP, jobs waited for."""

from collections.abc import Callable, Sequence
from typing import Final

from benchmarks.bench import Bench
from cli.processes import worker_argv, worker_env
from lensqueue_client import Client, Job, NewItem
from models.queue import ANALYSIS

JOB_SECONDS: Final = 6 * 3600.0


def start_service(bench: Bench, model: str, **env: str) -> None:
    """The API without its limits, a worker with a real engine and an analyst; returns when all take work."""
    bench.start_api(LENSQUEUE_REQUESTS_PER_MINUTE="0", **env)
    bench.start("worker", worker_argv(), **worker_env(model, device="cpu"), **env)
    bench.start("analyst", worker_argv(), **worker_env(ANALYSIS, device="cpu"), **env)
    with open_client(bench) as client:

        def online() -> bool:
            return {each.model for each in client.workers() if each.state == "online"} >= {model, ANALYSIS}

        bench.wait_until(online, every=0.2)


def open_client(bench: Bench) -> Client:
    """A client of the service."""
    return Client(f"http://127.0.0.1:{bench.port}", bench.key)


def fill_set(client: Client, name: str, items: Sequence[NewItem]) -> str:
    """A sealed version of these pictures, by its id."""
    made = client.create_set(name)
    client.add_items(made, items)
    return client.seal(made).id


def wait_for(bench: Bench, client: Client, job: Job, look: Callable[[Job], None] = lambda _: None) -> Job:
    """The job once it has ended, every item of it well; `look` sees it now and then."""
    found = job

    def ended() -> bool:
        nonlocal found
        found = client.job(found)
        look(found)
        return found.done

    bench.wait_until(ended, seconds=JOB_SECONDS, every=0.5)
    if not found.complete:
        raise RuntimeError(f"{found.id} {found.state}: {found.error}")
    return found


def seconds_of(job: Job) -> float:
    """From its first claim to its end."""
    assert job.started_at is not None
    assert job.ended_at is not None
    return (job.ended_at - job.started_at).total_seconds()
