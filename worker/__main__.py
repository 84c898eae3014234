"""A worker process: `python -m worker`, with its settings in the environment."""

import os
import socket
import sys
import uuid
import warnings

# set before the application is built: the child inherits it and speaks of the same worker
os.environ.setdefault("LENSQUEUE_WORKER_ID", str(uuid.uuid4()))

from celery.platforms import SecurityWarning
from sqlalchemy.exc import OperationalError

from models.session import sync_sessions
from worker import runtime
from worker.app import app, is_analyst, settings
from worker.deaths import Deaths
from worker.pool import WatchedPool, WatchedTaskPool

EXIT_FAILED = 3


def main() -> int:
    """Run until told to stop; status 3, the reason on the last line, when the checkpoint did not load."""
    # Celery warns root of pickled messages; ours are JSON and nothing else is accepted
    warnings.filterwarnings("ignore", category=SecurityWarning)
    sessions = sync_sessions(settings.database_url)
    try:
        runtime.register(sessions, settings)
        runtime.take_back(sessions, settings)
    except OperationalError as error:
        return _fail(f"the database does not answer: {str(error.orig).splitlines()[0]}")
    WatchedPool.on_exit = Deaths(sessions, settings).report
    worker = app.Worker(
        hostname=f"{settings.worker_id}@{socket.gethostname()}",
        pool=WatchedTaskPool,
        loglevel="WARNING",
        quiet=True,
    )
    worker.start()
    runtime.say_goodbye(sessions, settings)
    failure = runtime.failure(sessions, settings)
    if failure is not None:
        what = "cannot work" if is_analyst else f"cannot load {settings.model}"
        return _fail(f"{what}: {failure}")
    return int(worker.exitcode or 0)


def _fail(reason: str) -> int:
    sys.stderr.write(f"lensqueue worker: {reason}\n")
    return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
