"""Has the worker of this host loaded, and is it heard of: `python -m worker.ready`, for containers' probes.

By the ledger, as everybody else sees it. It says nothing of who is to be killed: a worker's parent process
restarts a child that falls silent, and while the database is away no worker is ready, and none at fault.
"""

import socket
import sys

from sqlalchemy.exc import SQLAlchemyError

from jobs.queries import workers_on
from jobs.settings import DatabaseSettings
from models.session import sync_sessions


def main() -> int:
    """Status 0 when it is; 1, and why, when not."""
    sessions = sync_sessions(DatabaseSettings().database_url)
    hostname = socket.gethostname()
    try:
        with sessions() as session:
            if session.scalar(workers_on(hostname)):
                return 0
        reason = f"no worker of {hostname} is online"
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
    sys.stderr.write(f"{reason}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
