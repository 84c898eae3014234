"""Every command of the documentation is run by a test, or says what it needs; and what it names exists."""

import re
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest
import typer

from cli.main import app
from tests.pages import ROOT, Block, blocks_of, commands_in, fences_of, find_pages, is_left_to_make, prose_of

PAGES: Final = find_pages()
BY_PAGE: Final = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
NEEDS: Final = {
    "a container engine": r"^ *docker ",
    "a container engine and a GPU": r"^docker .*\n.*docker .*-gpu$",
    "a cluster": r"^kubectl ",
    "a GPU": r"--device cuda",
    "a bucket": r"s3://",
    "a Postgres of your own": r"^psql |^pg_restore |lensqueue migrate|models import schema",
    "an hour": r"demo\.recipe\.train",
    "PyPI": r"^pip install ",
    "weights from the hub": r"google/siglip",
}
"""What the first line of a block may say that keeps it from being run here; and what shows that it does."""
DATA: Final = {"json", "yaml"}
"""Languages without commands; "text" has none either, and is looked through."""
USAGE: Final = re.compile(r"lensqueue .*\[OPTIONS\].*")
PROGRAMS: Final = (
    *(
        "lensqueue",
        "make",
        "curl",
        "wget",
        "cat",
        "ls",
        "cd",
        "echo",
        "export",
        "source",
        "read",
        "head",
        "rm",
    ),
    *(
        "docker",
        "docker-compose",
        "podman",
        "kubectl",
        "helm",
        "nvidia-smi",
        "systemctl",
        "journalctl",
        "ssh",
    ),
    *(
        "python",
        "python3",
        "pip",
        "pip3",
        "uv",
        "pytest",
        "git",
        "npm",
        "npx",
        "bash",
        "sh",
        "apt",
        "apt-get",
    ),
    *(
        "psql",
        "createdb",
        "pg_dump",
        "pg_restore",
        "pg_upgrade",
        "alembic",
        "redis-cli",
        "valkey-cli",
        "rsync",
    ),
    *(
        "hf",
        "huggingface-cli",
        "openssl",
        "openapi-python-client",
        "aws",
        "tar",
        "unzip",
        "sed",
        "mkdir",
        "cp",
    ),
)
COMMAND: Final = re.compile(
    rf"^\s*(?:[$%>] |\\! )?(?:sudo |exec |time )?(?:[A-Za-z_]+=(?:\$\(|'[^']*' |\"[^\"]*\" |\S* ))*"
    rf"(?:(?:{'|'.join(PROGRAMS)})(?![\w=:-])|\.{{0,2}}/?(?:[\w.-]+/)*bin/|\./)",
    re.MULTILINE,
)
INDENTED: Final = re.compile(r"^ {4,}\S.*$", re.MULTILINE)
SPAN: Final = re.compile(r"(?<!`)`([^`]+)`(?!`)")
NAMES: Final = re.compile(r"(?:[A-Z_]+=\S* )*(?:\.venv/bin/)?(?:lensqueue|make|python3? -m) ")
RUN_ELSEWHERE: Final = {
    "demo": ("lensqueue demo", "tests/acceptance/test_up.py", 'run("demo"'),
    "up": ("lensqueue up", "tests/acceptance/standing.py", 'lensqueue("up")'),
}
"""Targets that `.ci/run` does not name: the command that they are, and who runs it."""


def unrunnable(block: Block, *, usage: bool) -> str | None:
    """What is wrong with a block that nobody runs."""
    if block.language in DATA:
        return None
    if block.language not in {"", "text"}:
        return f"{block.language!r} is run by nobody"
    first = block.text.partition("\n")[0]
    if first.startswith("# needs"):
        shown = NEEDS.get(first.removeprefix("# needs "))
        if shown is None:
            return f"{first!r} is none of what a block may need"
        return None if re.search(shown, block.text, re.MULTILINE) else f"{first!r}, but it does not"
    if usage and USAGE.fullmatch(block.text.strip()):
        return None
    found = COMMAND.search(block.text)
    return f"{found[0].strip()!r} is a command" if found else None


@BY_PAGE
def test_every_block_is_run_or_says_what_it_needs(page: Path) -> None:
    run = {block.line for block in blocks_of(page)}
    # written from the commands themselves, as `make check` sees
    usage = page == ROOT / "docs" / "reference" / "commands.md"
    left = [block for block in fences_of(page) if block.line not in run and not is_left_to_make(block)]
    wrong = {block.line: unrunnable(block, usage=usage) for block in left}
    assert not {line: why for line, why in wrong.items() if why}
    assert not [line for line in INDENTED.findall(prose_of(page)) if COMMAND.match(line)]


def test_what_a_block_may_need_is_what_contributors_are_told_and_what_pages_say() -> None:
    told = re.findall(r"`# needs ([^`]+)`", (ROOT / "CONTRIBUTING.md").read_text())
    said = {
        first for page in PAGES for first in re.findall(r"^# needs (.*)$", page.read_text(), re.MULTILINE)
    }
    assert sorted(told) == sorted(NEEDS) == sorted(said)


def test_what_is_left_to_make_is_run_by_ci_or_by_a_test_of_its_own() -> None:
    makefile, ci = (ROOT / "Makefile").read_text(), (ROOT / ".ci" / "run").read_text()
    commands = [
        command
        for page in PAGES
        for block in fences_of(page)
        if is_left_to_make(block)
        for command in commands_in(block.text)
    ]
    named = {command[1] for command in commands if command[0] == "make"}
    assert {"demo", "up", "test"} <= named
    for target in named - set(re.findall(r"^make (\S+)$", ci, re.MULTILINE)):
        command, runner, as_there = RUN_ELSEWHERE[target]
        recipe = re.search(rf"^{target}: .*##.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
        assert recipe, target
        assert f"/{command}" in recipe[1]
        assert as_there in (ROOT / runner).read_text()


def named_by(page: Path) -> Iterator[tuple[list[str], bool]]:
    """The commands of a page, and whether they are whole: those in a sentence need not be."""
    for block in fences_of(page):
        if block.language == "bash" or COMMAND.search(block.text):
            if block.language not in {"bash", "text"} or USAGE.fullmatch(block.text.strip()):
                continue
            yield from ((command, True) for command in commands_in(block.text))
    for span in SPAN.findall(prose_of(page)):
        if NAMES.match(" ".join(span.split()) + " "):
            yield from ((command, False) for command in commands_in(" ".join(span.split())))


@BY_PAGE
def test_every_command_that_a_page_names_exists_with_its_options(page: Path) -> None:
    for command, whole in named_by(page):
        match within(command):
            case ["lensqueue", *words]:
                check_words(words, whole=whole)
            case ["make", *words]:
                check_targets(words)
            case ["python" | "python3", "-m", module, *_]:
                check_module(module)


def within(command: list[str]) -> list[str]:
    """What is run inside of a container, of a command that runs something there."""
    if command[0] not in {"docker", "kubectl"} or "exec" not in command:
        return command
    inner = command[command.index("exec") + 1 :]
    # not where it is an option's value: the database and its user are called so
    starts = [
        at
        for at, (before, word) in enumerate(pairwise(["--", *inner]))
        if word == "lensqueue" and (before == "--" or not before.startswith("-"))
    ]
    return inner[starts[0] :] if starts else inner


def check_words(words: list[str], *, whole: bool) -> None:
    """That the command line has this command, and the command these options."""
    command: Any = typer.main.get_command(app)
    context = command.context_class(command, info_name="lensqueue")
    everywhere = parameters = command.get_params(context)
    words = [word for word in words if word != "COMMAND"]
    while hasattr(command, "list_commands") and words and not words[0].startswith("-"):
        name = words.pop(0)
        command = command.get_command(context, name)
        assert command, f"{name} is no command"
        context = command.context_class(command, info_name=name, parent=context)
        parameters = [*command.get_params(context), *everywhere]
    options = {name: each for each in parameters for name in (*each.opts, *each.secondary_opts)}
    given = 0
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            given += 1
            continue
        name, _, value = word.partition("=")
        assert name in options, f"{command.name} has no {name}"
        if not options[name].is_flag and not value:
            assert words or not whole, f"{name} of what?"
            words[:1] = []
    if whole and not hasattr(command, "list_commands"):
        arguments = [each for each in command.params if each.param_type_name == "argument"]
        least = sum(each.required for each in arguments)
        most = sys.maxsize if any(each.nargs < 0 for each in arguments) else len(arguments)
        assert least <= given <= most, f"{command.name} takes {least} to {most} arguments, not {given}"


def check_targets(words: list[str]) -> None:
    """That the Makefile has what it is told to make, and reads what it is told."""
    makefile = (ROOT / "Makefile").read_text()
    for word in words:
        name, given, _ = word.partition("=")
        wanted = rf"\$\((?:value )?{name}\)|\$\(if \$\({name}\)" if given else rf"^{name}:.*##"
        assert re.search(wanted, makefile, re.MULTILINE), f"make knows no {name}"


def check_module(module: str) -> None:
    """That there is something to run under this name."""
    file = ROOT / module.replace(".", "/")
    known = file.with_suffix(".py").exists() or (file / "__main__.py").exists()
    assert known or module.partition(".")[0] in {*sys.stdlib_module_names, "pytest", "pip"}, module


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("```sh\nls\n```\n", "is run by nobody"),
        ("```\ncurl -sS localhost\n```\n", "'curl' is a command"),
        ("```text\nA=$(lensqueue models)\n```\n", "is a command"),
        ("1. So:\n\n   ```text\n   $ X='1 2' .venv/bin/python -m cli\n   ```\n", "is a command"),
        ("```text\n# needs patience\nlensqueue models\n```\n", "none of what a block may need"),
        ("```text\n# needs a container engine\nlensqueue models\n```\n", "but it does not"),
    ],
)
def test_a_block_that_nobody_runs_is_found(tmp_path: Path, text: str, why: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    assert blocks_of(page) == []
    (block,) = fences_of(page)
    assert why in (unrunnable(block, usage=False) or "")


def test_a_block_behind_make_is_run_all_the_same(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```bash\nmake up\n```\n\n1. So:\n\n   ```bash\n   make up\n   lensqueue models\n   ```\n"
    )
    (block,) = blocks_of(page)
    assert block.text == "make up\nlensqueue models\n"


@pytest.mark.parametrize(
    "named",
    [
        "`lensqueue sets shoe`",
        "`lensqueue up --ports 1`",
        "`make nothing`",
        "`make up HOST=1`",
        "`python -m demo.no`",
        "```bash\nlensqueue watch\n```",
        "```bash\nlensqueue watch a b\n```",
    ],
)
def test_a_command_that_is_not_there_is_found(tmp_path: Path, named: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"Say {named}.\n" if named[1] != "`" else f"{named}\n")
    with pytest.raises(AssertionError):
        test_every_command_that_a_page_names_exists_with_its_options(page)
