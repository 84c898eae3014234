"""Ingestions on the wire: files or a prefix of S3 that become items of an image set."""

from typing import Annotated

from pydantic import AfterValidator, Field

from api.schemas.submissions import Tags
from api.schemas.wire import Wire, storable

MAX_PREFIX = 1_100


class IngestionOptions(Wire):
    """How files become items."""

    folder_labels: bool = Field(
        False, description="Whether the name of the folder that a picture lies in is its true label."
    )
    tags: Tags = Field(default_factory=dict)


class PrefixIngestion(IngestionOptions):
    """A prefix of S3, or of a service that speaks as it does."""

    prefix: Annotated[str, Field(min_length=1, max_length=MAX_PREFIX), AfterValidator(storable)] = Field(
        description="`s3://bucket/folder/`, of those that the operator allows."
    )
