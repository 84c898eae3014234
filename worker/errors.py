"""What becomes of a picture on which its decoder fails: a permanent error of the item alone."""

from pictures.errors import PictureError


class DecoderCrashedError(PictureError):
    """The picture brings its decoder down: save it anew with another program and send that."""

    code = "decoder-crashed"


class ImageTooSlowError(PictureError):
    """The picture takes too long to decode: send a smaller one, or a plain JPEG or PNG of it."""

    code = "image-too-slow"


class ImageTooCostlyError(PictureError):
    """The picture takes too much memory to decode: send a smaller one, or a plain JPEG or PNG of it."""

    code = "image-too-costly"
