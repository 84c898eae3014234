"""Everything the engine refuses or fails at; imports no torch, so that any process can name these."""

from typing import ClassVar


class EngineError(Exception):
    """The engine cannot answer; `code` is stable, the message says what to do."""

    code: ClassVar[str] = "engine-error"


class CatalogError(EngineError):
    """A model name that is refused before anything is loaded."""

    code = "model-refused"


class UnknownModelError(CatalogError):
    """A name that is in no list."""

    code = "unknown-model"


class ModelDoesNotExistError(CatalogError):
    """A name that people expect on the hub and that is not there."""

    code = "model-does-not-exist"


class ModelNotSupportedError(CatalogError):
    """A checkpoint that exists, of a kind or size that this engine does not read."""

    code = "model-not-supported"


class ModelLoadFailedError(EngineError):
    """Weights, tokenizer or preprocessor are missing, torn or of another format."""

    code = "model-load-failed"


class LabelError(EngineError):
    """A set of labels that cannot be scored; `path` leads from the list to what is wrong in it."""

    code = "label-error"

    def __init__(self, message: str, *, path: tuple[str | int, ...] = ()) -> None:
        """Keep where the fault lies."""
        super().__init__(message)
        self.path = path


class LabelsMissingError(LabelError):
    """No label at all, or a blank one."""

    code = "labels-missing"


class LabelsIndistinctError(LabelError):
    """Two labels that the tokenizer turns into equal token ids."""

    code = "labels-indistinct"


class OutOfMemoryError(EngineError):
    """The device had no room for the batch: transient, a smaller `batch_size` may pass."""

    code = "out-of-memory"


class InvalidArgumentError(EngineError):
    """An argument of a public method is unusable; `argument` names it, `path` leads on into it."""

    code = "invalid-argument"

    def __init__(self, argument: str, problem: str, *, path: tuple[str | int, ...] = ()) -> None:
        """Keep the argument's name beside the message that begins with it."""
        super().__init__(f"{argument}: {problem}")
        self.argument = argument
        self.path = path


class OutputTooLargeError(EngineError):
    """What was asked for is larger than one call hands out; the message says what to take less of."""

    code = "output-too-large"


class LensUnsoundError(EngineError):
    """The fast reading of a layer differs from the checkpoint's own by more than the laws allow."""

    code = "lens-unsound"


class RuntimeFallbackWarning(UserWarning):
    """The chosen runtime cannot serve; results are right, and slower."""


class TextTruncatedWarning(UserWarning):
    """A text was longer than the checkpoint reads; its end was left out."""
