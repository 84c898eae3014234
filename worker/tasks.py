"""The Celery task: an invitation arrived, so claim and run what waits."""

from typing import Any

import structlog
from celery import Task, shared_task

from jobs.broker import TASK

log = structlog.get_logger()


@shared_task(name=TASK, bind=True, ignore_result=True)
def work(self: Any) -> None:
    """Run work until none waits or the time slice is over; then invite whoever is free."""
    # imported here: the parent process knows the task, but must stay without torch
    from worker import runtime  # noqa: PLC0415
    from worker.canary import UNFIT  # noqa: PLC0415
    from worker.time_slice import run_slice  # noqa: PLC0415

    assert isinstance(self, Task)
    try:
        more = run_slice(runtime.current())
    except UNFIT as error:
        mine = runtime.current()
        runtime.end_sick(mine.sessions, mine.settings, error)
    except (Exception, SystemExit):
        # under prefork some would end the whole worker; the lease expires and the work waits again
        log.exception("slice.failed")
        return
    if more:
        self.apply_async(retry=False)
