"""What the processes read from the environment, from the classes that read it."""

import math
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Any, Final, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from api.settings import ApiSettings
from handbook.docstrings import of_class, of_fields, row
from jobs.settings import DatabaseSettings, ServiceSettings
from worker.settings import WorkerSettings

READERS: Final[dict[str, tuple[type[BaseSettings], ...]]] = {
    "Every process": (DatabaseSettings, ServiceSettings),
    "The API": (ApiSettings,),
    "The workers": (WorkerSettings,),
}
HEAD: Final = """\
# Settings

Variables of the environment. A list or an object is given as JSON; what has a unit ends in it. A value that
cannot be read ends the start, with the variable's name. `lensqueue up` sets the places itself and hands all
others on. `LENSQUEUE_URL` and `LENSQUEUE_API_KEY` are read by [the commands](commands.md) and by the Python
client, `HF_HOME`, `HF_TOKEN` and `HF_HUB_OFFLINE` by the workers' library of checkpoints, those of AWS by
what reads S3.
"""
WORDS: Final = {
    "bool": "true or false",
    "int": "integer",
    "float": "number",
    "str": "text",
    "Path": "path",
    "UUID": "UUID",
    "list": "list",
    "dict": "object",
}
MADE: Final[dict[Any, str]] = {list: "`[]`", dict: "`{}`"}
BINARY: Final = {2**30: "GiB", 2**20: "MiB"}


def page() -> str:
    """The page, whole."""
    return HEAD + "".join(f"\n## {title}\n\n{_table(owners)}" for title, owners in READERS.items())


def _table(owners: tuple[type[BaseSettings], ...]) -> str:
    rows = [row("variable", "type", "default", "what it says"), "|---|---|---|---|"]
    rows += [line for owner in owners for line in _rows(owner)]
    return "\n".join(rows) + "\n"


def _rows(owner: type[BaseSettings]) -> Iterator[str]:
    assert of_class(owner)
    said = of_fields(owner)
    prefix = owner.model_config["env_prefix"]
    for name, field in owner.model_fields.items():
        if name in owner.__annotations__:
            assert name in said, f"{owner.__name__}.{name} has no docstring"
            yield row(f"`{prefix}{name.upper()}`", _type(field), _default(field), said[name])


def _type(field: FieldInfo) -> str:
    bounds = [_bound(rule) for rule in field.metadata]
    return ", ".join([_word(field.annotation), *filter(None, bounds)])


def _word(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(annotation))
    if isinstance(annotation, UnionType):
        return " or ".join(_word(part) for part in get_args(annotation) if part is not NoneType)
    return WORDS[(get_origin(annotation) or annotation).__name__]


def _bound(rule: object) -> str:
    match rule:
        case Ge(ge):
            return f"at least {ge}"
        case Gt(gt):
            return f"more than {gt}"
        case Le(le):
            return f"at most {le}"
    return ""


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return MADE.get(get_origin(field.annotation), "a new one")
    if field.default is PydanticUndefined:
        return "must be given"
    if field.default is None:
        return ""
    return _shown(field.default)


def _shown(value: Any) -> str:
    if value == math.inf:
        return "no limit"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int):
        for size, unit in BINARY.items():
            if value and value % size == 0:
                return f"{value} ({value // size} {unit})"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"
