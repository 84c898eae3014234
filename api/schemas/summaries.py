"""Summaries on the wire."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator
from pydantic.json_schema import SkipJsonSchema

from api.schemas.labels import MAX_PROMPT
from api.schemas.submissions import JobId, Tags
from api.schemas.wire import GIVEN, WHOLE, Wire, storable, without_default

MAX_SEED = 2**32 - 1
MAX_NAMES = 1_000
TRUTH = (
    "For labels of the other job those of this one that mean the same; needed where their names differ, and"
    " then a label that is not named here is never right."
)

Name = Annotated[str, Field(max_length=MAX_PROMPT), AfterValidator(storable)]
Names = Annotated[
    dict[Name, Name],
    Field(max_length=MAX_NAMES),
    WithJsonSchema(
        {
            "type": "object",
            "propertyNames": {"maxLength": MAX_PROMPT},
            "additionalProperties": {"type": "string", "maxLength": MAX_PROMPT},
            "maxProperties": MAX_NAMES,
        }
    ),
]


class AnalysisRequest(Wire):
    """What is said of everything that an analyst computes from jobs over image sets."""

    seed: Annotated[int, Field(ge=0, le=MAX_SEED), WHOLE] = Field(
        0, description="Decides every random draw: the same jobs and seed give the same numbers."
    )
    tags: Tags = Field(default_factory=dict)


class SummaryRequest(AnalysisRequest):
    """How a job over an image set is summarised, and what it is set beside."""

    compare_with: Annotated[JobId | SkipJsonSchema[None], GIVEN] = Field(
        None,
        description="Another `logit_lens` over the same version that has ended, to be compared with:"
        " `comparison` of the summary.",
        json_schema_extra=without_default,
    )
    same_truth: Names = Field(default_factory=dict, description=TRUTH)
    drift_from: Annotated[JobId | SkipJsonSchema[None], GIVEN] = Field(
        None,
        description="A `logit_lens` of the same model over another version, to measure drift from: `drift` of"
        " the summary.",
        json_schema_extra=without_default,
    )

    @model_validator(mode="after")
    def _truth_of_two(self) -> Self:
        if self.same_truth and self.compare_with is None:
            raise ValueError("same_truth is of a job to compare with: give compare_with too")
        return self
