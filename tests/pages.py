"""The pages of the documentation: their blocks, and the commands in them."""

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
HISTORY: Final = "CHANGELOG.md"
"""It tells of commands as they were."""
RUN: Final = ("bash", "python")
FENCE: Final = re.compile(
    r"^(?P<before>[ >]*)(?P<fence>```+|~~~+)(?P<about>.*)\n(?P<text>[^\0]*?)^(?P=before)(?P=fence)$",
    re.MULTILINE,
)
MARK: Final = re.compile(r"(?:[ >]|[-*+] |\d+[.)] )*(```|~~~)")
ASSIGNMENT: Final = re.compile(r"[A-Za-z_]+=.*", re.DOTALL)
COMMENT: Final = re.compile(r"(?<!\S)# .*$", re.MULTILINE)
BOUNDS: Final = frozenset("();<>|&\n")


@dataclass(frozen=True, slots=True)
class Block:
    """Some lines of a page that stand apart, what they are written in, and where they stand."""

    language: str
    text: str
    line: int


def find_pages() -> list[Path]:
    """Every page of the repository that tells how things are."""
    rooms = [entry for entry in ROOT.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    found = chain(ROOT.glob("*.md"), *(room.rglob("*.md") for room in rooms))
    return sorted(page for page in found if page.name != HISTORY)


def fences_of(page: Path) -> list[Block]:
    """All blocks of a page, top to bottom; fails where one does not end as it begins."""
    text = page.read_text(encoding="utf-8")
    found = [
        Block(match["about"], textwrap.dedent(match["text"]), text.count("\n", 0, match.start()) + 2)
        for match in FENCE.finditer(text)
    ]
    within = sum(sum(bool(MARK.match(line)) for line in block.text.splitlines()) for block in found)
    assert 2 * len(found) + within == sum(bool(MARK.match(line)) for line in text.splitlines()), page
    return found


def blocks_of(page: Path) -> list[Block]:
    """What is to be run of a page, top to bottom."""
    return [block for block in fences_of(page) if block.language in RUN and not is_left_to_make(block)]


def is_left_to_make(block: Block) -> bool:
    """Whether it does nothing but bring up the whole service or run its tests, as CI and other tests do."""
    if block.language != "bash":
        return False
    commands = commands_in(block.text)
    # what sets a variable and runs nothing is for the blocks behind it
    return bool(commands) and all(
        command[0] == "make" or command[:2] == ["lensqueue", "up"] for command in commands
    )


def prose_of(page: Path) -> str:
    """A page without its blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def commands_in(text: str) -> list[list[str]]:
    """The words of each command of a shell's lines, without what it is given by its environment."""
    lexer = shlex.shlex(
        COMMENT.sub("", text).replace("\\\n", " "), posix=True, punctuation_chars="".join(BOUNDS)
    )
    lexer.whitespace, lexer.commenters, lexer.whitespace_split = " \t", "", True
    return list(_split(lexer))


def _split(words: Iterator[str]) -> Iterator[list[str]]:
    command: list[str] = []
    for word in chain(words, "\n"):
        if BOUNDS.isdisjoint(word) or not BOUNDS.issuperset(word):
            if command or not ASSIGNMENT.fullmatch(word):
                command.append(word.removeprefix(".venv/bin/") if not command else word)
        elif command:
            yield command
            command = []
