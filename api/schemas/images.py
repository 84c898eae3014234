"""Images on the wire: pictures that jobs name by id."""

from datetime import datetime

from pydantic import BaseModel, Field

from api.schemas.ids import image_id
from jobs.images import Kept
from models.image import Image


class ImageView(BaseModel):
    """A picture of this key's tenant, addressed by its content."""

    id: str
    sha256: str
    image_bytes: int
    media_type: str | None = Field(
        description="By its first bytes; null for a file that came with a job and is no supported picture."
    )
    created_at: datetime


class UploadedImage(ImageView):
    """A picture as it was just sent."""

    filename: str | None = Field(description="The name of its part, of which nothing is kept.")
    created: bool = Field(description="False when the same bytes were there already.")


class UploadedImages(BaseModel):
    """The pictures of an upload, in its order."""

    items: list[UploadedImage]


def view(image: Image) -> ImageView:
    """What the wire shows of an image."""
    return ImageView(
        id=image_id(image.id),
        sha256=image.sha256,
        image_bytes=image.image_bytes,
        media_type=image.media_type,
        created_at=image.created_at,
    )


def uploaded(kept: Kept, filename: str | None, *, first: bool) -> UploadedImage:
    """What the wire shows of a picture just sent; `first` of those with the same bytes."""
    return UploadedImage(**dict(view(kept.image)), filename=filename, created=kept.created and first)
