"""The codes that an item is given where it fails, read from the source: nothing else lists them all."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from handbook.docstrings import in_a_line

ROOT: Final = Path(__file__).resolve().parents[1]
MAKERS: Final = frozenset({"item_error", "MemberError", "_error"})
"""What makes the error of an item: called with its code and its message."""


def said_in(*folders: str) -> dict[str, str]:
    """Each code that a source below the folders gives to an item, with its sentences.

    A code that another error brings along, `fault.code`, is that error's, and not told here.
    """
    sentences: dict[str, list[str]] = defaultdict(list)
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            tree = ast.parse(path.read_text())
            numbers = _numbers(tree)
            for code, message in _made(tree):
                sentence = in_a_line(_text(message, numbers))
                if sentence not in sentences[code]:
                    sentences[code].append(sentence)
    return {code: " Or: ".join(found) for code, found in sentences.items()}


def _made(tree: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name), args=[ast.Constant(value=str(code)), message]) if (
                name in MAKERS
            ):
                yield code, message
            case ast.Call(func=ast.Name(id=name), args=[first, *_]) if name in MAKERS:
                assert "code" in ast.unparse(first), f"no code that can be read: {ast.unparse(node)}"


def _text(message: ast.expr, numbers: dict[str, int]) -> str:
    """The message with what differs from item to item left open."""
    match message:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_text(part, numbers) for part in parts)
        case ast.FormattedValue(value=ast.Name(id=name)) if name in numbers:
            return str(numbers[name])
        case ast.FormattedValue(value=ast.Call(func=ast.Name(id="quoted")) | ast.Attribute(attr="name")):
            return "NAME"
        case _:
            return "…"


def _numbers(tree: ast.Module) -> dict[str, int]:
    """The numbers that the module names."""
    return {
        node.target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, int)
    }
