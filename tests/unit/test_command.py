"""The `lensqueue` command before and around its commands."""

import json
import sys
from importlib.abc import MetaPathFinder
from typing import Any

import pytest

from cli.__main__ import main
from cli.collection import read_labels
from cli.ending import USAGE, CommandError
from cli.main import app
from cli.progress import say_end
from lensqueue_client import Client, Job
from lensqueue_client.jobs import Progress


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


@pytest.mark.parametrize(
    "labels", ["'a cat','a dog'", 'a cat,a dog"', "\u201ca cat\u201d,a dog", "a cat,'a dog"]
)
def test_a_quote_that_would_be_part_of_a_label_is_refused(labels: str) -> None:
    with pytest.raises(CommandError, match="a quote would be part of"):
        read_labels(labels)


def test_quotes_that_belong_to_a_label_are_kept() -> None:
    labels = """the dogs' bed,a 5" square,5",it's"""
    assert read_labels(labels) == ("the dogs' bed", 'a 5" square', '5"', "it's")


def test_the_flag_of_a_document_may_stand_before_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    documents = []
    for arguments in (["--json", "results"], ["results", "--json"], ["--url", "x:1", "--json", "results"]):
        with pytest.raises(SystemExit) as ended:
            app(arguments, prog_name="lensqueue")
        assert ended.value.code == USAGE
        documents.append(json.loads(capsys.readouterr().out))
    assert documents[0]["error"]["code"] == "usage"
    assert documents == documents[:1] * 3


def test_of_a_cancelled_job_without_results_only_the_rest_is_offered(
    capsys: pytest.CaptureFixture[str],
) -> None:
    dropped = Job("job_1", "logit_lens", "cancelled", True, "a model", Progress(total=5, dropped=5))
    with Client("http://nowhere", "key") as client:
        say_end(client, dropped)
    told = capsys.readouterr().err
    assert "Do the rest with `lensqueue retry job_1`" in told
    assert "lensqueue results" not in told
