"""The dashboard: pages under /admin for people who are signed in, over the same verbs as the API."""

from fastapi import Depends, FastAPI

from api.dashboard import failures
from api.dashboard.security import SecurityHeaders, check_origin
from api.dashboard.sign_in_limits import SignInLimits
from api.dashboard.views import job_actions, jobs, new_job, own_account, sign_in, static

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
    app.add_middleware(SecurityHeaders)
    failures.install(app)
    # before the page of one job, whose path matches theirs too
    of_jobs = (jobs, job_actions, new_job)
    for view in (static, sign_in, own_account, *of_jobs):
        app.include_router(view.router)
    return app
