"""What a label is: a name, and the texts or numbers behind it.

Imports no torch, so that a job can be checked before it is queued.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engine.errors import InvalidArgumentError, LabelsIndistinctError, LabelsMissingError

Prompts = str | tuple[str, ...] | dict[str, tuple[str, ...]] | None
"""The texts of a label in its form: one that filled the template, several, both ends of a direction, none."""


@dataclass(frozen=True, slots=True)
class Label:
    """A name that results are told by, and one of four things that it stands for.

    - nothing else: the name fills the template, as that of a plain string does.
    - `prompts`: texts as they are; the mean of their unit vectors.
    - `positive` and `negative`: a direction, from the mean of these to the mean of those unit vectors.
    - `vector` [width]: numbers in the space of the embeddings, of any length but zero.

    Texts are several, or one string. What is wrong with a label is told when it is read, see `read_labels`.
    """

    name: str
    prompts: Sequence[str] | None = None
    positive: Sequence[str] | None = None
    negative: Sequence[str] | None = None
    vector: Sequence[float] | None = None


AnyLabel = str | Label | Mapping[str, Any]
TEXT_PARTS: Final = ("prompts", "positive", "negative")
_FORMS: Final = ({"prompts"}, {"positive", "negative"}, {"vector"})
_FIELDS: Final = frozenset(field.name for field in fields(Label))
_OFFERED: Final = "a string, or a `name` with either `prompts`, or `positive` and `negative`, or a `vector`"


def read_labels(labels: object) -> list[Label]:
    """The labels, each a string, a `Label` or a mapping of its fields, as `Label`s of tuples.

    Names differ, no text is blank, vectors are finite and of norm 1. An error's `path` leads to its fault.

    Raises:
        LabelsMissingError: no label, or a blank text.
        LabelsIndistinctError: two labels of one name.
        InvalidArgumentError: anything that is no list of labels.
    """
    if isinstance(labels, (str, bytes)) or not isinstance(labels, Sequence):
        raise InvalidArgumentError("labels", "expected a list of labels, e.g. ['cat', 'dog']")
    if len(labels) == 0:
        raise LabelsMissingError("labels: give at least one.")
    read = [_read(given, index) for index, given in enumerate(labels)]
    seen: dict[str, int] = {}
    for index, label in enumerate(read):
        first = seen.setdefault(label.name, index)
        if first != index:
            raise LabelsIndistinctError(
                f"labels: label {first} and label {index} are both named {label.name!r}.", path=(index,)
            )
    return read


def check_template(template: object) -> str:
    """The template, once it has exactly one `{}`.

    Raises:
        InvalidArgumentError: it has not.
    """
    if not isinstance(template, str) or template.count("{}") != 1:
        raise InvalidArgumentError(
            "template", f"needs exactly one {{}} where the label goes, not {template!r}"
        )
    return template


def resolve_prompts(label: Label, template: str) -> Prompts:
    """The texts to embed of a label that was read."""
    if label.vector is not None:
        return None
    if label.prompts is not None:
        return tuple(label.prompts)
    if label.positive is not None and label.negative is not None:
        return {"positive": tuple(label.positive), "negative": tuple(label.negative)}
    return template.replace("{}", label.name)


def texts_of(prompts: Prompts) -> tuple[str, ...]:
    """All texts of a label's prompts."""
    if isinstance(prompts, dict):
        return prompts["positive"] + prompts["negative"]
    if isinstance(prompts, str):
        return (prompts,)
    return prompts or ()


def is_fitted(prompts: Prompts) -> bool:
    """Whether logit and match probability say anything of a label: of texts, but of no other vectors."""
    return isinstance(prompts, (str, tuple))


def count_prompts(labels: Iterable[str | Mapping[str, Any]]) -> int:
    """How many texts are to be embedded for labels as a job holds them."""
    return sum(1 if isinstance(label, str) else count_texts(label) for label in labels)


def count_texts(label: Mapping[str, Any]) -> int:
    """How many texts a label has that is no plain string."""
    given = (label.get(part) or () for part in TEXT_PARTS)
    return sum(1 if isinstance(texts, str) else len(texts) for texts in given)


def unit_vector(numbers: Sequence[float]) -> NDArray[np.float64]:
    """The numbers as a vector of norm 1.

    Raises:
        ValueError: one is not finite, or all are zero; the message says which.
    """
    try:
        vector = np.asarray(numbers, dtype=np.float64)
    except OverflowError:
        raise ValueError("holds a number that is too large") from None
    largest = np.abs(vector).max(initial=0.0)
    if not np.isfinite(largest):
        raise ValueError("holds NaN or infinity")
    if largest == 0.0:
        raise ValueError("holds nothing but zeros, which is no direction")
    # first by the largest: squares of very large or small numbers leave the range
    scaled = vector / largest
    return np.asarray(scaled / np.linalg.norm(scaled), dtype=np.float64)


def _read(given: object, index: int) -> Label:
    if isinstance(given, str):
        return Label(_text(given, (index,)))
    if isinstance(given, Label):
        said = {name: value for name in _FIELDS if (value := getattr(given, name)) is not None}
    elif isinstance(given, Mapping):
        said = dict(given)
    else:
        raise _unusable((index,), f"is {type(given).__name__}, expected {_OFFERED}")
    form = set(said) - {"name"}
    if "name" not in said or (form not in _FORMS and not (isinstance(given, Label) and not form)):
        raise _unusable((index,), f"has {sorted(map(str, said))}, expected {_OFFERED}")
    texts = {part: _texts(said[part], (index, part)) for part in TEXT_PARTS if part in said}
    vector = _vector(said["vector"], (index, "vector")) if "vector" in said else None
    return Label(_text(said["name"], (index, "name")), vector=vector, **texts)


def _texts(given: object, path: tuple[str | int, ...]) -> tuple[str, ...]:
    if isinstance(given, str):
        return (_text(given, path),)
    if isinstance(given, bytes) or not isinstance(given, Sequence):
        raise _unusable(path, f"is {type(given).__name__}, expected a list of texts")
    if len(given) == 0:
        raise _unusable(path, "is empty: give at least one text")
    return tuple(_text(text, (*path, position)) for position, text in enumerate(given))


def _text(given: object, path: tuple[str | int, ...]) -> str:
    if not isinstance(given, str):
        raise _unusable(path, f"is {type(given).__name__}, expected a string")
    if not given.strip():
        raise LabelsMissingError(f"labels: {_where(path)} is blank.", path=path)
    try:
        given.encode()
    except UnicodeEncodeError:
        raise _unusable(path, "holds a lone surrogate, which is no character") from None
    return given


def _vector(given: object, path: tuple[str | int, ...]) -> tuple[float, ...]:
    # an array, a tensor too
    numbers = given.tolist() if hasattr(given, "tolist") else given
    if isinstance(numbers, (str, bytes)) or not isinstance(numbers, Sequence) or not numbers:
        raise _unusable(path, "is no list of numbers")
    if not all(isinstance(each, (float, int)) and not isinstance(each, bool) for each in numbers):
        raise _unusable(path, "holds something that is no number")
    try:
        return tuple(unit_vector(numbers).tolist())
    except ValueError as fault:
        raise _unusable(path, str(fault)) from None


def _unusable(path: tuple[str | int, ...], problem: str) -> InvalidArgumentError:
    return InvalidArgumentError("labels", f"{_where(path)} {problem}", path=path)


def _where(path: tuple[str | int, ...]) -> str:
    index, *rest = path
    return f"label {index}" + "".join(f", {part}" if isinstance(part, str) else f" {part}" for part in rest)
