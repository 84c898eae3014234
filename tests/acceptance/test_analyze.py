"""`lensqueue analyze`, on a service of its own: from a folder to files that belong together."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd

from cli.analyze import _drop_stale, _worth_a_look
from cli.ending import PARTIAL, USAGE
from cli.truth import read_items
from tests.commands import run_here
from tests.conftest import SAMPLES

ROOT = Path(__file__).resolve().parents[2]


def analyze(folder: Path, out: Path, state: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "cli",
            "analyze",
            str(folder),
            "-o",
            str(out),
            "--state",
            str(state),
            *options,
        ],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_folder_becomes_a_report_and_the_rows_behind_it(tmp_path: Path) -> None:
    folder = tmp_path / "shapes"
    labels = pd.read_csv(SAMPLES.parent / "labels.csv").set_index("custom_id")["label"]
    kept = labels[~labels.str.contains(" and ")].head(10)
    for name, label in kept.items():
        (folder / label).mkdir(parents=True, exist_ok=True)
        (folder / label / f"{name}.jpg").write_bytes((SAMPLES / f"{name}.jpg").read_bytes())
    (folder / "torn.jpg").write_bytes((SAMPLES / "scene-00000.jpg").read_bytes()[:2_000])
    out, state = tmp_path / "found", tmp_path / "state"
    done = analyze(folder, out, state, "--template", "a photo of a {}")
    # in part: one of the pictures is none
    assert done.returncode == PARTIAL, done.stdout + done.stderr
    told = json.loads((out / "summary.json").read_text())
    assert (told["counts"]["total"], told["counts"]["failed"]) == (11, 1)
    items = pd.read_parquet(out / "items.parquet").set_index("index")
    layers = pd.read_parquet(out / "layers.parquet")
    known = items["true_label"].dropna()
    for layer in told["layers"]:
        tops = layers[layers["layer"] == layer["layer"]].set_index("index")["top"]
        assert abs(layer["top1"] - (tops[known.index] == known).mean()) < 1e-6
    assert items[items["state"] == "failed"]["custom_id"].tolist() == ["torn.jpg"]
    page = (out / "report.html").read_text()
    assert "torn.jpg" in page
    assert "<script" not in page
    # the job kept maps of its pictures, and the contact sheet of the latest flips lays them over these
    late = told["settle"]["late"][0]
    assert f'alt="Where {late["top"]} is read at layer {told["layers"][-1]["layer"]}"' in page
    made = json.loads((out / ".progress.json").read_text())["made"]
    again = analyze(folder, out, state, "--template", "a photo of a {}")
    assert again.returncode == PARTIAL, again.stdout + again.stderr
    # nothing was computed twice: it is the same job and the same summary
    assert json.loads((out / ".progress.json").read_text())["made"] == made
    assert "Submitted" not in again.stdout


def test_what_cannot_be_analysed_is_said(tmp_path: Path) -> None:
    state, out = tmp_path / "state", tmp_path / "out"
    (tmp_path / "empty").mkdir()
    for name, row in (
        ("short", "scene-00000.jpg"),
        ("long", "scene-00000.jpg,black, heart"),
        ("lost", "nowhere.jpg,black heart"),
        ("unnamed", ",black heart"),
    ):
        (tmp_path / f"{name}.csv").write_text(f"file,label\nscene-00001.jpg,blue ring\n{row}\n")
    (tmp_path / "other.csv").write_text("path,class\n")
    for folder, options, said in (
        (tmp_path / "nowhere", (), "is not a folder"),
        (tmp_path / "empty", (), "holds no pictures"),
        (SAMPLES, (), "say what may be in the pictures"),
        (SAMPLES, ("--truth", str(tmp_path / "none.csv")), "none.csv"),
        (SAMPLES, ("--truth", str(tmp_path / "other.csv")), "no columns `file` and `label`"),
        (SAMPLES, ("--truth", str(tmp_path / "short.csv")), "short.csv, line 3: it has fewer fields"),
        (SAMPLES, ("--truth", str(tmp_path / "long.csv")), "long.csv, line 3: it has more fields"),
        (SAMPLES, ("--truth", str(tmp_path / "lost.csv")), "lost.csv, line 3: there is no file"),
        (SAMPLES, ("--truth", str(tmp_path / "unnamed.csv")), "unnamed.csv, line 3: it names no file"),
        (SAMPLES, ("--labels", "a,a"), "is there twice"),
    ):
        done = run_here("analyze", str(folder), "-o", str(out), "--state", str(state), *options)
        assert done.returncode == USAGE, done.stdout + done.stderr
        assert said in done.stdout + done.stderr


def test_what_was_written_by_an_analysis_or_unasked_is_none_of_its_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "shapes"
    out, state = folder / "found", folder / "state"
    for path in (out / "heatmaps" / "item-0.png", state / "a.png", folder / "ring" / "._a.jpg"):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"picture")
    done = run_here("analyze", str(folder), "-o", str(out), "--state", str(state))
    assert (done.returncode, "holds no pictures" in done.stderr) == (USAGE, True), done.stderr
    (folder / "ring" / "a.jpg").write_bytes(b"picture")
    # a folder that holds all of them is no reason to take none
    assert [item.custom_id for item in read_items(folder, "none", (tmp_path, out, state))] == ["ring/a.jpg"]


def test_heatmaps_are_of_doubtful_late_and_outlying_pictures_in_turn() -> None:
    def items(*indexes: int, score: float = 0) -> dict[str, list[dict[str, float]]]:
        return {"items": [{"index": index, "score": score} for index in indexes]}

    told = {"label_candidates": items(1, 2), "settle": {"late": items(3, 1, 4)["items"]}}
    assert _worth_a_look({**told, "outliers": items(5, 6, 7, score=1.6)}) == [1, 3, 5, 2, 6, 4]
    assert _worth_a_look({**told, "outliers": items(5, 6, 7, score=1.05)}) == [1, 3, 2, 4]


def test_what_an_earlier_analysis_left_and_this_one_has_not_is_removed(tmp_path: Path) -> None:
    for name in ("label_maps.parquet", "notes.txt"):
        (tmp_path / name).write_text("earlier")
    _drop_stale(tmp_path, ["summary.json", "label_maps.parquet"])
    assert len(list(tmp_path.iterdir())) == 2
    _drop_stale(tmp_path, ["summary.json"])
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
