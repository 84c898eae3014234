"""The Celery task of an analyst: an invitation arrived, so claim and run what waits."""

from typing import Any

import structlog
from celery import Task, shared_task

from jobs.broker import TASK
from jobs.errors import BlobStoreMissingError

log = structlog.get_logger()


@shared_task(name=TASK, bind=True, ignore_result=True)
def work(self: Any) -> None:
    """Run work until none waits or the time slice is over; then invite whoever is free."""
    # imported here: what analyses needs is not for the parent process
    from worker import analyst_runtime, runtime  # noqa: PLC0415
    from worker.analyst import run_slice  # noqa: PLC0415

    assert isinstance(self, Task)
    analyst = analyst_runtime.current()
    try:
        more = run_slice(analyst)
    except (BlobStoreMissingError, OSError) as error:
        runtime.end_sick(analyst.sessions, analyst.settings, error)
    except (Exception, SystemExit):
        # under prefork some would end the whole worker; the lease expires and the work waits again
        log.exception("slice.failed")
        return
    if more:
        self.apply_async(retry=False)
