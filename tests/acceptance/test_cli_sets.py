"""Image sets from the command line, as a person fills and seals them."""

import re
import shutil
from pathlib import Path

import pytest

from cli.ending import PARTIAL, REFUSED, USAGE
from tests.acceptance.shell import LABELS, PICTURES, Shell

pytestmark = pytest.mark.timeout(300)


def test_a_folder_is_added_to_a_set_and_sealed(shell: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "shapes" / "ring"
    folder.mkdir(parents=True)
    for path in PICTURES[:2]:
        (folder / Path(path).name).write_bytes(Path(path).read_bytes())
    image_set = shell.run("sets", "create", "shapes [1]", "--licence", "CC0-1.0").stdout.strip()
    assert re.fullmatch(r"ims_[0-9a-f]{32}", image_set)
    unsealed = shell.run("submit", "--set", image_set, "--labels", LABELS, status=REFUSED)
    assert f"lensqueue sets seal {image_set}" in unsealed.stderr
    added = shell.run("sets", "add", image_set, str(folder.parent), "--labels-from-folders")
    assert (added.stdout, "2 added of 2 pictures" in added.stderr) == ("", True)
    (folder / "torn.jpg").write_bytes(b"no picture")
    (folder / "notes.txt").write_bytes(b"a ring")
    again = shell.json("sets", "add", image_set, str(folder.parent), status=PARTIAL)
    assert {name: again[name] for name in ("total", "there", "added", "failed")} == {
        "total": 3,
        "there": 2,
        "added": 1,
        "failed": 1,
    }
    assert again["passed_over"] == [str(folder / "notes.txt")]
    version = shell.run("sets", "seal", image_set)
    assert re.fullmatch(r"isv_[0-9a-f]{32}\n", version.stdout)
    assert "version 1 has 3 items, 1 with an error in place of a picture" in version.stderr
    shown = shell.run("sets", "show", image_set)
    assert version.stdout.strip() in shown.stdout
    assert "shapes [1]; licence: CC0-1.0" in shown.stderr
    told = shell.json("sets", "show", image_set)["versions"]
    assert [(each["items"], each["labelled"]) for each in told] == [(3, 2)]
    assert shell.json("sets", "seal", image_set)["id"] == version.stdout.strip()
    for meant in (image_set, f"{image_set}:1", version.stdout.strip()):
        job = shell.json("submit", "--set", meant, "--labels", LABELS)
        over = shell.json("reproduce", job["id"])["request"]["input"]
        assert over == {"image_set_version": version.stdout.strip()}
    archive = shutil.make_archive(str(tmp_path / "shapes"), "zip", folder)
    job = shell.json("sets", "ingest", image_set, archive, "--folder-labels", "--tag", "of:shapes")
    assert (job["type"], job["tags"]) == ("ingest", {"of": "shapes"})
    shell.run("cancel", job["id"])
    shell.run("sets", "ingest", image_set, status=USAGE)
    shell.run("sets", "ingest", image_set, str(tmp_path / "nowhere.zip"), status=USAGE)
    refused = shell.json("sets", "search", version.stdout.strip(), "a ring", status=REFUSED)
    assert refused["error"]["code"] == "not-indexed"
    shell.run("sets", "search", version.stdout.strip(), "a ring", "--like", "0", status=USAGE)
    assert shell.json("sets", "list", "--limit", "1")["items"][0]["id"] == image_set
    assert "shapes [1]" in shell.run("sets", "list").stdout
    assert shell.json("sets", "delete", image_set) == {"id": image_set, "deleted": True}
    shell.run("sets", "show", image_set, status=REFUSED)
    shell.run("sets", "add", image_set, str(tmp_path / "nowhere"), status=USAGE)
