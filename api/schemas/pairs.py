"""Comparisons and drifts on the wire."""

from pydantic import Field

from api.schemas.submissions import JobId
from api.schemas.summaries import TRUTH, AnalysisRequest, Names


class ComparisonRequest(AnalysisRequest):
    """Which two jobs over one version are set side by side."""

    job_id: JobId = Field(description="A `logit_lens` over an image set that has ended.")
    other_job_id: JobId = Field(description="Another one over the same version.")
    same_truth: Names = Field(default_factory=dict, description=TRUTH)


class DriftRequest(AnalysisRequest):
    """Which two versions are held against each other, named by jobs of one model over them."""

    job_id: JobId = Field(
        description="A `logit_lens` that has ended, over the version that may have drifted."
    )
    reference_job_id: JobId = Field(
        description="One of the same model over the version that it is measured from."
    )
