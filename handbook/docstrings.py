"""The sentence under a field of a class: Python forgets it, its source has it."""

import ast
import inspect
import textwrap
from itertools import pairwise


def of_fields(owner: type) -> dict[str, str]:
    """Each field that the class itself describes, with its description in a line."""
    (made,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
    assert isinstance(made, ast.ClassDef)
    return {
        field.target.id: in_a_line(said.value.value)
        for field, said in pairwise(made.body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(said, ast.Expr)
        and isinstance(said.value, ast.Constant)
        and isinstance(said.value.value, str)
    }


def of_class(owner: type) -> str:
    """What the class says of itself; a class that is shown says something."""
    assert owner.__doc__, f"{owner.__name__} has no docstring"
    return inspect.cleandoc(owner.__doc__)


def in_a_line(text: str) -> str:
    """The text as it stands in a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def row(*cells: str) -> str:
    """A line of a table."""
    return f"| {' | '.join(cells)} |"
