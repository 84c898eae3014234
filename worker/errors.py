"""What goes wrong with decoders: by the fault of a picture, as a permanent error of it, or of the host."""

from typing import ClassVar

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


class DecoderStartError(RuntimeError):
    """A decoding process did not start: no picture's fault."""

    code: ClassVar[str] = "decoder-start-failed"


class PausedError(Exception):
    """The work goes on in another turn: what is done of it so far is kept."""
