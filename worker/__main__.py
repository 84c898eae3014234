"""A worker process: `python -m worker`, with its settings in the environment."""

import os
import sys
import uuid

# set before the application is built: the child inherits it and speaks of the same worker
os.environ.setdefault("LENSQUEUE_WORKER_ID", str(uuid.uuid4()))

from sqlalchemy import select

from models.session import sync_sessions
from models.types import WorkerState
from models.worker import Worker
from worker.app import app, settings

EXIT_LOAD_FAILED = 3


def main() -> int:
    """Run until told to stop; status 3, the reason on the last line, when the checkpoint did not load."""
    try:
        app.worker_main(
            ["worker", "--pool=prefork", "--loglevel=WARNING", f"--hostname={settings.worker_id}@%h"]
        )
    except SystemExit as end:
        status = int(end.code or 0)
    else:
        status = 0
    with sync_sessions(settings.database_url)() as session:
        error = session.scalar(
            select(Worker.error).where(Worker.id == settings.worker_id, Worker.state == WorkerState.FAILED)
        )
    if error:
        print(f"lensqueue worker: cannot load {settings.model}: {error['message']}", file=sys.stderr)  # noqa: T201
        return EXIT_LOAD_FAILED
    return status


if __name__ == "__main__":
    sys.exit(main())
