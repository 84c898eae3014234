"""What all parts of summary.json have in common."""

from typing import Annotated, TypeAlias

from pydantic import BaseModel, ConfigDict, Field


class Part(BaseModel):
    """A part of a summary: read-only, finite numbers only, no field unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


Count: TypeAlias = Annotated[int, Field(ge=0)]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Difference: TypeAlias = Annotated[float, Field(ge=-1, le=1)]
