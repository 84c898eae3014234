"""Writes the pages of the reference that follow from the code: `python -m handbook [--check]`.

With `--check` it says which are not as they would be written: what was added and not written down.
"""

import json
import sys
from pathlib import Path
from typing import Final

from handbook import commands, errors, metrics, modules, operations, settings, tables

FOLDER: Final = Path(__file__).resolve().parents[1] / "docs" / "reference"
DOCUMENT: Final = FOLDER / "openapi.json"
WRITTEN: Final = "<!-- Written by `python -m handbook`: change what it reads, and run it. -->\n\n"


def pages() -> dict[str, str]:
    """Every page by its name."""
    return {
        "api.md": operations.page(json.loads(DOCUMENT.read_text(encoding="utf-8"))),
        "commands.md": commands.page(),
        "errors.md": errors.page(),
        "metrics.md": metrics.page(),
        "modules.md": modules.page(),
        "settings.md": settings.page(),
        "tables.md": tables.page(),
    }


def main(arguments: list[str]) -> int:
    """Write them; with `--check`, say which differ."""
    wrong = []
    for name, text in pages().items():
        path, wanted = FOLDER / name, WRITTEN + text
        if arguments != ["--check"]:
            path.write_text(wanted, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != wanted:
            wrong.append(path)
    for path in wrong:
        sys.stderr.write(f"{path}: not what the code says: run `make reference`\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
