"""What `lensqueue analyze` remembers in its folder, beside a service that may have forgotten it."""

import os
from pathlib import Path

import pytest

from cli.analysis_progress import Progress, forget_lost
from cli.analyze import Wanted, _choose, _make_version, _progress
from lensqueue_client import Client, NewItem
from tests.acceptance.clients import PATHS


def test_what_the_service_does_not_know_any_more_is_forgotten_with_what_was_made_of_it(
    sync_client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress.of(tmp_path, "a model", 0, "these arguments")
    set_id = progress.once("set", lambda: sync_client.create_set("shapes").id)
    sync_client.add_items(set_id, [NewItem(PATHS[0], "first")])
    version = progress.once("version", lambda: sync_client.seal(set_id).id)
    job = sync_client.wait(progress.once("job", lambda: sync_client.submit_lens_over(version, ["a", "b"]).id))
    forget_lost(progress, sync_client)
    assert progress.made() == {"set": set_id, "version": version, "job": job.id}
    assert capsys.readouterr().out == ""
    sync_client.delete(job)
    forget_lost(progress, sync_client)
    assert progress.made() == {"set": set_id, "version": version}
    assert "The job that was made" in capsys.readouterr().out
    sync_client.delete_set(set_id)
    forget_lost(progress, sync_client)
    assert progress.made() == {}
    assert "The set that was made" in capsys.readouterr().out


def test_a_folder_that_holds_something_else_is_said_to_be_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = Wanted("shapes", [NewItem(PATHS[0], "first")], ("a", "b"), None)
    _progress(tmp_path, wanted, "a model", 0).once("set", lambda: "ims_1")
    assert _progress(tmp_path, wanted, "a model", 0).made() == {"set": "ims_1"}
    assert capsys.readouterr().out == ""
    assert _progress(tmp_path, wanted, "another", 0).made() == {}
    assert "what lies there is replaced" in capsys.readouterr().out.replace("\n", " ")


def test_a_picture_that_changed_in_its_place_is_another_one(tmp_path: Path) -> None:
    picture = tmp_path / "picture.jpg"
    picture.write_bytes(PATHS[0].read_bytes())
    wanted, out = Wanted("shapes", [NewItem(picture, "first")], ("a", "b"), None), tmp_path / "out"
    _progress(out, wanted, "a model", 0).once("set", lambda: "ims_1")
    picture.write_bytes(PATHS[1].read_bytes())
    assert _progress(out, wanted, "a model", 0).made() == {}


def test_names_that_are_no_text_are_escaped(sync_client: Client, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    picture = folder / os.fsdecode(b"ring\xff") / os.fsdecode(b"a\x80.jpg")
    picture.parent.mkdir(parents=True)
    picture.write_bytes(PATHS[0].read_bytes())
    wanted = _choose(folder, None, "folders", None, ())
    version = _make_version(sync_client, wanted, _progress(tmp_path / "out", wanted, "a model", 0))
    (item,) = sync_client.set_items(version)
    assert (item.custom_id, item.true_label, item.error) == (r"ring\xdcff/a\xdc80.jpg", r"ring\xdcff", None)
