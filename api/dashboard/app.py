"""The dashboard: pages under /admin for people who are signed in, over the same verbs as the API."""

from fastapi import Depends, FastAPI

from api.dashboard import failures
from api.dashboard.live import MOST_STREAMS, Hub
from api.dashboard.security import SecurityHeaders, check_origin
from api.dashboard.series import KeptSeries
from api.dashboard.sign_in_limits import SignInLimits
from api.dashboard.views import (
    accounts,
    audit,
    job,
    job_actions,
    job_item,
    job_results,
    jobs,
    keys,
    live,
    new_job,
    overview,
    own_account,
    queues,
    sets,
    sign_in,
    static,
    webhooks,
    workers,
)
from api.streams import Streams

PATH = "/admin"


def create_dashboard() -> FastAPI:
    """The pages, to be mounted at PATH; `state.services` is that of the application they are mounted in."""
    app = FastAPI(
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[Depends(check_origin)],
    )
    app.state.sign_in_limits = SignInLimits()
    app.state.hub = Hub()
    app.state.series = KeptSeries()
    app.state.streams = Streams(MOST_STREAMS)
    app.add_middleware(SecurityHeaders)
    failures.install(app)
    of_people = (sign_in, own_account, accounts, keys, webhooks, audit)
    of_jobs = (jobs, job_actions, new_job, job, job_item, job_results)
    for view in (static, live, overview, *of_jobs, sets, workers, queues, *of_people):
        app.include_router(view.router)
    return app
