"""Labels as they are submitted: a string, or a name with prompts, the ends of a direction, or a vector."""

from typing import Annotated, Any, Final

from pydantic import AfterValidator, Discriminator, Field, Tag

from api.schemas.wire import Wire, storable
from engine.labels import unit_vector

MAX_PROMPT: Final = 1_000
MAX_PROMPTS: Final = 100
"""Of one label; of a direction, on each side."""
MAX_WIDTH: Final = 8_192
"""No checkpoint's embeddings have so many numbers."""
DECIMALS: Final = 9
"""More than the engine's float32 has of a number of a unit vector; else a tiny one could take 300 digits."""

TEXT, ENSEMBLE, DIRECTION, VECTOR, ONE, MANY = FORMS = (
    "(text)",
    "(ensemble)",
    "(direction)",
    "(vector)",
    "(one)",
    "(many)",
)
"""By these pydantic tells apart what has several forms; they show in the location of a fault, and no field is
called so."""


def _form(value: Any) -> str | None:
    if isinstance(value, str):
        return TEXT
    said = set(value) if isinstance(value, dict) else set()
    forms = {
        ENSEMBLE: "prompts" in said,
        DIRECTION: bool(said & {"positive", "negative"}),
        VECTOR: "vector" in said,
    }
    fitting = [form for form, fits in forms.items() if fits]
    return fitting[0] if len(fitting) == 1 else None


def _many(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _unit(value: list[float]) -> list[float]:
    return [round(number, DECIMALS) for number in unit_vector(value).tolist()]


# that it is not blank is checked with all else that labels are held to, and pointed at there
Prompt = Annotated[
    str, Field(max_length=MAX_PROMPT, json_schema_extra={"pattern": r"\S"}), AfterValidator(storable)
]
# the first fault is enough: a list of millions of them would be a gigabyte of faults
Prompts = Annotated[list[Prompt], Field(min_length=1, max_length=MAX_PROMPTS, fail_fast=True)]
OneOrMany = Annotated[
    Annotated[Prompt, Tag(ONE)] | Annotated[Prompts, Tag(MANY)],
    Discriminator(
        lambda value: ONE if isinstance(value, str) else MANY if isinstance(value, list) else None,
        custom_error_type="prompts_form",
        custom_error_message="give a string, or a list of strings",
    ),
    AfterValidator(_many),
]


class EnsembleLabel(Wire):
    """Several prompts as they are: the mean of their unit vectors. The template is not applied."""

    name: Prompt
    prompts: Prompts


class DirectionLabel(Wire):
    """A direction, from the mean of the negative prompts to that of the positive ones, each as they are.

    Only cosines say something of it: logit and match probability are fitted for single texts.
    """

    name: Prompt
    positive: OneOrMany
    negative: OneOrMany


class VectorLabel(Wire):
    """A vector in the space of the model's embeddings, of any length but zero."""

    name: Prompt
    vector: Annotated[
        list[Annotated[float, Field(allow_inf_nan=False)]],
        Field(min_length=1, max_length=MAX_WIDTH, fail_fast=True),
        AfterValidator(_unit),
    ]


Label = Annotated[
    Annotated[Prompt, Tag(TEXT)]
    | Annotated[EnsembleLabel, Tag(ENSEMBLE)]
    | Annotated[DirectionLabel, Tag(DIRECTION)]
    | Annotated[VectorLabel, Tag(VECTOR)],
    Discriminator(
        _form,
        custom_error_type="label_form",
        custom_error_message="give a string, or a `name` with either `prompts`, or `positive` and `negative`,"
        " or a `vector`",
    ),
]
