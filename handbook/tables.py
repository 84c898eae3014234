"""The tables of the database, from the classes that they are made from."""

from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import CheckConstraint, Column, Index, Table, make_url

from handbook.docstrings import in_a_line, of_class, of_fields, row
from models.tables import Base

DIALECT: Final = make_url("postgresql+psycopg://").get_dialect()()
HEAD: Final = """\
# Tables

What Postgres holds, one schema for all processes; `lensqueue migrate` makes it. Names say most of it: `_at`
is a time with its zone, `_id` names a row. What may be null is marked so. The tables are no API: read them,
and write by `/v1`.
"""
EMPTY: Final = "''"


def page() -> str:
    """The page, whole."""
    made = sorted(Base.registry.mappers, key=lambda mapper: mapper.local_table.description)
    return HEAD + "".join(_section(mapper.class_) for mapper in made)


def _section(owner: type[Base]) -> str:
    table = owner.__table__
    assert isinstance(table, Table)
    said = _said(owner)
    columns = [
        row(f"`{column.name}`", _type(column), _given(column), said.get(column.name, ""))
        for column in table.columns
    ]
    head = [row("column", "type", "default", "what it says"), "|---|---|---|---|"]
    rules = list(_rules(table))
    return "\n".join(["", f"## {table.name}", "", of_class(owner), "", *head, *columns, "", *rules, ""])


def _said(owner: type[Base]) -> dict[str, str]:
    return {
        name: text
        for part in reversed(owner.__mro__)
        if _ours(part)
        for name, text in of_fields(part).items()
    }


def _ours(part: type) -> bool:
    return part.__module__.startswith("models.") and part is not Base


def _type(column: Column[Any]) -> str:
    name = column.type.compile(dialect=DIALECT).lower()
    return f"{name}, null" if column.nullable else name


def _given(column: Column[Any]) -> str:
    default: Any = column.server_default
    return "" if default is None else f"`{_sql(default.arg) or EMPTY}`"


def _rules(table: Table) -> Iterator[str]:
    yield f"- Primary key: {_names(table.primary_key.columns)}."
    for key in sorted(table.foreign_key_constraints, key=lambda key: str(key.name)):
        target = key.elements[0].target_fullname.rpartition(".")[0]
        then = f", on delete {key.ondelete.lower()}" if key.ondelete else ""
        yield f"- {_names(key.columns)} in `{target}`{then}."
    for check in sorted(table.constraints, key=lambda rule: str(rule.name)):
        if isinstance(check, CheckConstraint):
            yield f"- Always: `{in_a_line(str(check.sqltext))}`"
    for index in sorted(table.indexes, key=lambda index: str(index.name)):
        yield f"- {_index(index)}"


def _index(index: Index) -> str:
    options = index.dialect_options["postgresql"]
    kind = "Unique index" if index.unique else "Index"
    parts = ", ".join(f"`{_sql(part)}`" for part in index.expressions)
    where = options.get("where")
    return f"{kind} on {parts}" + (f" where `{_sql(where)}`." if where is not None else ".")


def _names(columns: Any) -> str:
    return ", ".join(f"`{column.name}`" for column in columns)


def _sql(part: Any) -> str:
    if isinstance(part, Column):
        return str(part.name)
    return in_a_line(part if isinstance(part, str) else str(part.compile(dialect=DIALECT)))
