"""What can be wrong with a picture: a permanent fault of the bytes, never of the service."""


class PictureError(Exception):
    """The picture cannot be used."""

    code = "picture-error"

    def __init__(self, detail: str = "") -> None:
        """Join the class's one sentence with what was found in these bytes."""
        sentence = (type(self).__doc__ or "").strip()
        super().__init__(f"{sentence} {detail}".strip())


class ImageEmptyError(PictureError):
    """The picture has no bytes: send the file's content."""

    code = "image-empty"


class ImageTruncatedError(PictureError):
    """The picture ends early: send the whole file again."""

    code = "image-truncated"


class NotAnImageError(PictureError):
    """These bytes are no picture in a supported format (JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF)."""

    code = "not-an-image"


class ImageTooLargeError(PictureError):
    """The picture is larger than this service accepts: send a smaller one."""

    code = "image-too-large"


class ImageUnreadableError(PictureError):
    """The picture's format is known but its content cannot be decoded."""

    code = "image-unreadable"
