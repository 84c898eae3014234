"""Searches of a version on the wire: what to look for, and what is nearest."""

import uuid
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from api.schemas.ids import image_id, job_id, version_id
from api.schemas.options import Template
from api.schemas.submissions import ImageId, JobId, ModelName, Text
from api.schemas.wire import GIVEN, WHOLE, Wire, not_one_of, storable, without_default
from jobs.nearest import Nearest
from models.set_vector import SetIndex

MAX_FOUND: Final = 200
MAX_LABEL: Final = 1_000
_SOUGHT: Final = ("text", "image_id", "like_index", "query_job")


Filter = Annotated[str, Field(max_length=MAX_LABEL), AfterValidator(storable)]
Place = Annotated[int, Field(ge=0, le=2**31 - 1), WHOLE]
Found = Annotated[int, Field(ge=1, le=MAX_FOUND), WHOLE]


class SearchRequest(Wire):
    """What to look for: a text, a picture, what is like an item, or what a job has embedded; one of them."""

    model_config = ConfigDict(json_schema_extra={"not": not_one_of(*_SOUGHT)})

    text: Annotated[Text | SkipJsonSchema[None], GIVEN] = Field(
        None, description="Embedded as it is.", json_schema_extra=without_default
    )
    template: Template | None = Field(
        None, description="Turns the text into the prompt that is embedded; holds {} once."
    )
    image_id: Annotated[ImageId | SkipJsonSchema[None], GIVEN] = Field(
        None, description="A picture that was sent to `/v1/images`.", json_schema_extra=without_default
    )
    like_index: Annotated[Place | SkipJsonSchema[None], GIVEN] = Field(
        None,
        description="An item of the version, which itself is not among what is found.",
        json_schema_extra=without_default,
    )
    query_job: Annotated[JobId | SkipJsonSchema[None], GIVEN] = Field(
        None,
        description="The job that an earlier search was answered with, or any that embeds one text or one"
        " picture: nothing is computed again.",
        json_schema_extra=without_default,
    )
    model: ModelName | None = Field(
        None, description="By which the version is searched; its only one when absent."
    )
    limit: Found = Field(20, description="So many are found at most.")
    true_label: Filter | None = Field(None, description="Only items that this label is true of.")
    split: Filter | None = Field(None, description="Only items of this split.")
    min_cosine: Annotated[float, Field(ge=-1, le=1)] | None = Field(
        None, description="Only items that are as near as that."
    )

    @model_validator(mode="after")
    def _one_sought(self) -> Self:
        if sum(getattr(self, name) is not None for name in _SOUGHT) != 1:
            raise ValueError("give exactly one of text, image_id, like_index and query_job")
        if self.template is not None and self.text is None:
            raise ValueError("a template belongs to a text")
        return self

    @property
    def prompt(self) -> str | None:
        """The text that is embedded."""
        if self.text is None or self.template is None:
            return self.text
        return self.template.replace("{}", self.text)


class FoundItem(BaseModel):
    """An item of the version, and how near it is."""

    index: int
    custom_id: str | None
    image_id: str
    true_label: str | None
    true_labels: list[str] | None = Field(description="Null unless it was given several.")
    split: str | None
    cosine: float


class SearchView(BaseModel):
    """What was found, the nearest first."""

    version_id: str
    model: str
    query_job: str | None = Field(
        description="The job that embedded the query: with other filters, give it instead; null for an item."
    )
    exact: bool = Field(
        description="Whether all vectors were compared; else an index was read, which may miss some."
    )
    items: list[FoundItem]


def view(head: SetIndex, query_job: uuid.UUID | None, found: Nearest) -> SearchView:
    """What the wire shows of a search."""
    return SearchView(
        version_id=version_id(head.version_id),
        model=head.model,
        query_job=None if query_job is None else job_id(query_job),
        exact=found.exact,
        items=[
            FoundItem(
                index=near.index,
                custom_id=near.custom_id,
                image_id=image_id(near.image_id),
                true_label=near.true_label,
                true_labels=None if near.true_labels is None else list(near.true_labels),
                split=near.split,
                cosine=round(near.cosine, 6),
            )
            for near in found.items
        ],
    )
