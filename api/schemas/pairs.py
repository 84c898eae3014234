"""Comparisons and drifts on the wire."""

from typing import Annotated

from pydantic import AfterValidator, Field, WithJsonSchema

from api.schemas.labels import MAX_PROMPT
from api.schemas.submissions import JobId
from api.schemas.summaries import SummaryRequest
from api.schemas.wire import storable

MAX_NAMES = 1_000

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


class ComparisonRequest(SummaryRequest):
    """Which two jobs over one version are set side by side."""

    job_id: JobId = Field(description="A `logit_lens` over an image set that has ended.")
    other_job_id: JobId = Field(description="Another one over the same version.")
    same_truth: Names = Field(
        default_factory=dict,
        description="For labels of the other job those of this one that mean the same; needed where their"
        " names differ, and then a label that is not named here is never right.",
    )


class DriftRequest(SummaryRequest):
    """Which two versions are held against each other, named by jobs of one model over them."""

    job_id: JobId = Field(
        description="A `logit_lens` that has ended, over the version that may have drifted."
    )
    reference_job_id: JobId = Field(
        description="One of the same model over the version that it is measured from."
    )
