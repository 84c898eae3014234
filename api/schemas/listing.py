"""How lists of jobs are asked for: filters, and tokens of pages."""

from typing import Annotated, Final
from urllib.parse import urlencode

from fastapi import Query
from pydantic import AfterValidator, AwareDatetime, Field

from api.schemas.submissions import MAX_MODEL_NAME, MAX_TAGS
from api.schemas.wire import DATED, storable
from jobs.errors import InvalidRequestError
from jobs.listing import JobFilter
from models.types import JobState, JobType

MAX_VALUES: Final = 16
"""Of one parameter that may be repeated."""
MAX_TAG: Final = 64 + 1 + 256

States = Annotated[
    list[JobState], Query(alias="state", max_length=MAX_VALUES, description="Any of them; may be repeated.")
]
Types = Annotated[
    list[JobType], Query(alias="type", max_length=MAX_VALUES, description="Any of them; may be repeated.")
]
Models = Annotated[
    list[Annotated[str, Field(max_length=MAX_MODEL_NAME), AfterValidator(storable)]],
    Query(alias="model", max_length=MAX_VALUES, description="Any of them; may be repeated."),
]
Tags = Annotated[
    list[Annotated[str, Field(max_length=MAX_TAG), AfterValidator(storable)]],
    Query(
        alias="tag",
        max_length=MAX_TAGS,
        description="`name:value`; may be repeated, and a job has all of them.",
    ),
]
CreatedAfter = Annotated[AwareDatetime | None, DATED, Query(description="Later than this time.")]
CreatedBefore = Annotated[AwareDatetime | None, DATED, Query(description="Earlier than this time.")]
PageToken = Annotated[
    str | None, Query(max_length=100, description="The `next_page_token` of the page before.")
]


def job_filter(
    state: States = [],  # noqa: B006 - FastAPI copies it, and tells the schema
    type_: Types = [],  # noqa: B006 - likewise
    model: Models = [],  # noqa: B006 - likewise
    tag: Tags = [],  # noqa: B006 - likewise
    created_after: CreatedAfter = None,
    created_before: CreatedBefore = None,
) -> JobFilter:
    """The filter that the query of a request names.

    Raises:
        InvalidRequestError: a tag has no value, or two.
    """
    tags: dict[str, str] = {}
    for each in tag:
        name, colon, value = each.partition(":")
        if not colon or tags.setdefault(name, value) != value:
            raise InvalidRequestError("Give a tag as `name:value`, and each name once.", pointer="/tag")
    return JobFilter(
        states=frozenset(state),
        types=frozenset(type_),
        models=frozenset(model),
        tags=tags,
        created_after=created_after,
        created_before=created_before,
    )


def next_link(path: str, query: list[tuple[str, str]], token: str) -> dict[str, str]:
    """The `Link` header of a page that another one follows."""
    kept = [(name, value) for name, value in query if name != "page_token"]
    return {"Link": f'<{path}?{urlencode([*kept, ("page_token", token)])}>; rel="next"'}
