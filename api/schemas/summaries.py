"""Summaries on the wire."""

from typing import Annotated

from pydantic import Field

from api.schemas.submissions import Tags
from api.schemas.wire import WHOLE, Wire

MAX_SEED = 2**32 - 1


class SummaryRequest(Wire):
    """How a job over an image set is summarised."""

    seed: Annotated[int, Field(ge=0, le=MAX_SEED), WHOLE] = Field(
        0, description="Decides every random draw: the same job and seed give the same summary."
    )
    tags: Tags = Field(default_factory=dict)
