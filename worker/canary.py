"""A batch whose answer is not in doubt: a worker that fails at it is sick, whatever it was given before."""

from typing import TYPE_CHECKING, ClassVar, Final

from PIL import Image

from jobs.errors import BlobStoreMissingError
from worker.errors import DecoderStartError

if TYPE_CHECKING:
    from torch import Tensor

    from engine.siglip import SiglipEngine

TEXT: Final = "a canary"
TURNS: Final = (0, 90, 180, 270)


class CanaryFailedError(Exception):
    """The model fails on pictures and texts that are known to be good: is this host or its GPU sick?"""

    code: ClassVar[str] = "canary-failed"

    def __init__(self, problem: str) -> None:
        """Keep what was seen behind the docstring."""
        super().__init__(f"{type(self).__doc__} {problem}")


UNFIT = (CanaryFailedError, BlobStoreMissingError, DecoderStartError, OSError)
"""The worker, or its host, fails at what is no fault of the work: another one is to do it."""


def check_canary(engine: "SiglipEngine") -> None:
    """Run fixed pictures and a text twice: all numbers must be finite, and the same both times.

    Raises:
        CanaryFailedError: they are not, or the engine raised something.
    """
    try:
        images = [engine.embed_images(_ramps()) for _ in range(2)]
        texts = [engine.embed_text([TEXT]) for _ in range(2)]
    except Exception as error:
        raise CanaryFailedError(f"{type(error).__name__}: {error}") from error
    _compare("pictures", *images)
    _compare("a text", *texts)


def _compare(what: str, first: "Tensor", second: "Tensor") -> None:
    if not bool(first.isfinite().all()):
        raise CanaryFailedError(f"Embeddings of {what} are not finite.")
    if not bool((first == second).all()):
        raise CanaryFailedError(f"Embeddings of {what} differ from one run to the next.")


def _ramps() -> list[Image.Image]:
    """A colour ramp, turned."""
    bands = [Image.linear_gradient("L").rotate(turn) for turn in (0, 90, 180)]
    ramp = Image.merge("RGB", bands)
    return [ramp.rotate(turn) for turn in TURNS]
