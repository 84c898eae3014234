"""Trying a job again, on the wire."""

from typing import Annotated

from pydantic import Field, Strict

from api.schemas.wire import Wire
from jobs.retry import RetryScope


class RetryRequest(Wire):
    """Which items of a job are tried again."""

    scope: Annotated[RetryScope, Strict(False)] = Field(
        RetryScope.FAILED_ITEMS, description="`failed_items` are those that failed or were dropped."
    )
