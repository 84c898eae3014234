"""Problems on the wire (RFC 9457): what every refusal says; `api.errors` writes them."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Fault(BaseModel):
    """One of the things that are wrong with a request."""

    pointer: str = Field(description="Where in the request it lies, a JSON Pointer; empty for all of it.")
    message: str
    code: str | None = Field(None, description="What is wrong with this picture; of uploads only.")


class Problem(BaseModel):
    """Why a request was refused. Tell problems apart by `code`: the words of the others may change."""

    model_config = ConfigDict(
        json_schema_extra={"description": "Why a request was refused; to be told apart by its `code`."}
    )

    type: Annotated[str, Field(pattern="^urn:lensqueue:problem:[a-z0-9-]+$")]
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str
    code: Annotated[str, Field(pattern="^[a-z0-9-]+$")]
    request_id: str = Field(description="As in `X-Request-Id`; the log has more under it.")
    errors: list[Fault] | None = Field(None, description="Each fault that was found, where there is a place.")
