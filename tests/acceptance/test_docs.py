"""Every block of the documentation that is bash or Python, run as a reader would, beside `lensqueue up`."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.acceptance.docs import Reader
from tests.acceptance.standing import ROOT, Up
from tests.ledger import MODEL
from tests.pages import blocks_of, find_pages

pytestmark = pytest.mark.timeout(600)
README = ROOT / "README.md"
COMPARING = ROOT / "docs" / "tutorials" / "comparing-two-models.md"
SHORTER = "my/five-blocks"
RECEIVER = "127.0.0.1:9000"
"""Where the page of webhooks listens."""
WITH_BLOCKS = [page for page in find_pages() if blocks_of(page)]


def make_shorter_model(folder: Path) -> Path:
    """The model of the tutorial that compares two, as its first block makes it."""
    made = folder / ".lensqueue"
    made.mkdir(parents=True)
    (folder / "demo").symlink_to(ROOT / "demo")
    with Reader("python", folder, dict(os.environ)) as reader:
        reader.run(blocks_of(COMPARING)[0], COMPARING.name)
    return made / SHORTER.rpartition("/")[2]


@pytest.fixture(scope="module")
def up(state_folder: Path) -> Iterator[Up]:
    folder = state_folder / "documentation"
    folder.mkdir(mode=0o711)
    paths = json.dumps({SHORTER: str(make_shorter_model(folder / "model"))})
    running = Up(
        folder / "state",
        *("--model", MODEL, "--model", SHORTER),
        LENSQUEUE_MODEL_PATHS=paths,
        LENSQUEUE_EGRESS_ALLOWED=json.dumps([RECEIVER]),
    )
    running.wait_until_ready()
    yield running
    # nothing of it is wanted: to end one process after the other in good order takes seconds
    running.kill()


@pytest.fixture
def checkout(up: Up, tmp_path: Path) -> Path:
    """The repository as a reader sees it, with the service's state; what a page writes is written here."""
    for entry in ROOT.iterdir():
        if entry.name not in {".lensqueue", ".venv", ".git"}:
            (tmp_path / entry.name).symlink_to(entry)
    (tmp_path / ".lensqueue").symlink_to(up.state)
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, arguments in (("python", ""), ("lensqueue", "-m cli")):
        # the interpreter of these tests, in an environment whose place is another
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        (programs / name).chmod(0o755)
    (programs / "activate").write_text(f'PATH="{programs}:$PATH"\n')
    return tmp_path


def run_page(page: Path, up: Up, checkout: Path) -> dict[str, list[str]]:
    """What each block of a page printed, by language; the only change is the port."""
    env = {name: value for name, value in os.environ.items() if name != "LENSQUEUE_API_KEY"}
    env["LENSQUEUE_URL"] = f"http://localhost:{up.port}"
    env["PATH"] = f"{checkout / '.venv' / 'bin'}:{env['PATH']}"
    printed: dict[str, list[str]] = {"bash": [], "python": []}
    with ExitStack() as stack:
        readers: dict[str, Reader] = {}
        for block in blocks_of(page):
            if block.language not in readers:
                readers[block.language] = stack.enter_context(Reader(block.language, checkout, env))
            told = replace(block, text=block.text.replace("localhost:8000", f"localhost:{up.port}"))
            printed[block.language].append(readers[block.language].run(told, page.name))
    return printed


@pytest.mark.parametrize(
    "page", [page for page in WITH_BLOCKS if page != README], ids=lambda page: str(page.relative_to(ROOT))
)
def test_every_block_of_a_page_runs(page: Path, up: Up, checkout: Path) -> None:
    printed = run_page(page, up, checkout)
    assert sum(map(len, printed.values())) == len(blocks_of(page))


def test_the_lines_of_the_readme_submit_a_picture_and_fetch_its_lens(up: Up, checkout: Path) -> None:
    first, *_ = run_page(README, up, checkout)["bash"]
    assert first.startswith("/v1/jobs/job_")
    results = first[first.index('{"items"') :]
    (item,) = json.loads(results)["items"]
    assert (item["state"], item["top"]["label"]) == ("succeeded", "cyan ring")
    with Image.open(up.state / "overlay.png") as overlay:
        assert overlay.width == 512


def test_pages_ask_the_service_where_it_runs_and_not_where_it_may() -> None:
    for page in WITH_BLOCKS:
        assert not [block for block in blocks_of(page) if "localhost:8000" in block.text], page


def test_a_block_that_fails_is_found(up: Up, checkout: Path, tmp_path: Path) -> None:
    page = checkout / "page.md"
    for text, said in (
        ("```bash\nA=1\n```\ntext\n```bash\necho $A\nfalse\necho on\n```\n", "line 6 failed"),
        ("```python\na = 1\n```\n```python\nassert a == 2\n```\n", "line 5 failed"),
        ('```bash\ncurl -sS "$LENSQUEUE_URL/v1/jobs/x"\n```\n', "was refused"),
    ):
        page.write_text(text)
        with pytest.raises(AssertionError, match=said) as failed:
            run_page(page, up, checkout)
        # what one block has set the next one has
        assert "unbound" not in str(failed.value)
