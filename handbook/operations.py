"""The operations of the API, by what they are about, from the document that the API gives of itself."""

from collections import defaultdict
from typing import Any, Final

from api.openapi import operations
from handbook.docstrings import in_a_line, row

HEAD: Final = """\
# API

Every operation. [The OpenAPI document](openapi.json) has their parameters, bodies, answers and examples; a
running service gives the same at `/openapi.json`, and shows it at `/docs`, where requests can be tried with
a key. [Errors](errors.md) are problems with a stable code. An operation that is not marked *open* takes a
key, `Authorization: Bearer lq_...`.
"""


def page(made: dict[str, Any]) -> str:
    """The page, whole."""
    by_tag: dict[str, list[str]] = defaultdict(list)
    for path, method, operation in operations(made):
        open_to_all = "" if operation["security"] else " *open*"
        text = in_a_line(operation["summary"])
        by_tag[operation["tags"][0]].append(row(f"`{method.upper()}`", f"`{path}`", f"{text}{open_to_all}"))
    return HEAD + "".join(
        f"\n## {tag['name'].capitalize()}\n\n{tag['description']}\n\n{_table(by_tag[tag['name']])}"
        for tag in made["tags"]
    )


def _table(rows: list[str]) -> str:
    return "\n".join([row("", "path", "what it does"), "|---|---|---|", *rows]) + "\n"
