"""The dashboard: pages under /admin for people who are signed in, over the same verbs as the API."""

from fastapi import Depends, FastAPI

from api.dashboard import failures
from api.dashboard.security import SecurityHeaders, check_origin
from api.dashboard.sign_in_limits import SignInLimits
from api.dashboard.views import (
    accounts,
    audit,
    job,
    job_item,
    job_results,
    keys,
    own_account,
    sets,
    sign_in,
    static,
    webhooks,
)

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
    views = (static, sign_in, own_account, job, job_item, job_results, sets, keys, webhooks, accounts, audit)
    for view in views:
        app.include_router(view.router)
    return app
