"""The `lensqueue` command before and around its commands."""

import sys
from importlib.abc import MetaPathFinder
from typing import Any

import pytest

from cli.__main__ import main


class Impatient(MetaPathFinder):
    """Somebody who presses Ctrl-C while a module is imported."""

    def __init__(self, module: str) -> None:
        self.module = module

    def find_spec(self, fullname: str, *_: Any) -> None:
        if fullname == self.module:
            raise KeyboardInterrupt


@pytest.mark.parametrize("module", ["cli.main", "cli.doctor"])
def test_ctrl_c_ends_it_quietly_while_it_is_still_being_imported(
    monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Impatient(module), *sys.meta_path])
    monkeypatch.setattr(sys, "argv", ["lensqueue", "doctor", "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
