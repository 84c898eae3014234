"""What the demo leaves behind: the results, an overlay a picture, a sheet of layers, and the report."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from analysis.facts import LensPicture, LensReport
from analysis.report import write_report
from cli.collection import Collection
from cli.console import console
from cli.lens_job import fetch_maps
from lensqueue_client import Client, Job
from lensqueue_client.items import item_of
from pictures.colours import Scale
from pictures.coverage import PatchGrid
from pictures.lettering import caption
from pictures.png import to_png
from pictures.sheet import SheetRow, draw_sheet
from pictures.thumbnail import open_thumbnail

PLATES = 48
"""Pictures that the report draws, for a person to read; its numbers are of all, as is everything else."""
SHEET_ROWS = 6


def write_demo(
    client: Client,
    folder: Path,
    collection: Collection,
    job: Job,
    items: list[dict[str, Any]],
) -> Path:
    """Write everything into `folder`, which is not there yet; returns it."""
    with console.status("Drawing ..."):
        (folder / "overlays").mkdir(parents=True)
        truth = {picture.name: list(picture.true_labels) for picture in collection.pictures}
        results = {"job": job.raw, "objects": truth, "items": items}
        (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        _write_overlays(client, folder / "overlays", items)
        told = _tell(client, collection, items)
        _write_sheet(folder / "lens.png", told)
        report = LensReport(collection.title, job.raw, told, collection.labels, PLATES)
        write_report(folder / "report.html", report)
    return folder


def _write_overlays(client: Client, folder: Path, items: list[dict[str, Any]]) -> None:
    """For each picture its top label at the last layer, as the service draws it."""
    for item in items:
        if "patch" in item:
            name = re.sub(r"[^\w.-]+", "_", Path(item["custom_id"]).stem)[:80]
            overlay = client.overlay(item_of(item))
            (folder / f"{item['index']:03}-{name}.png").write_bytes(overlay)


def _tell(client: Client, collection: Collection, items: list[dict[str, Any]]) -> list[LensPicture]:
    """All pictures with their items; with thumbnail and maps as many as are drawn."""
    pictures = {picture.name: picture for picture in collection.pictures}
    told = []
    drawn = 0
    for item in items:
        picture = pictures[item["custom_id"]]
        seen: tuple[Any, ...] = ()
        if "patch" in item and drawn < PLATES:
            seen = fetch_maps(client, item)
            drawn += 1
        told.append(LensPicture(picture.name, item["custom_id"], picture.true_labels, item, *seen))
    return told


def _write_sheet(target: Path, told: list[LensPicture]) -> None:
    """A few pictures, layer by layer, as one PNG to be shown around."""
    rows = _varied([picture for picture in told if picture.maps is not None])
    if not rows:
        return
    patch = rows[0].item["patch"]
    rows_cols = patch["grid"]
    grid = PatchGrid(rows_cols[0], rows_cols[1], patch["patch_size"], patch["image_size"])
    lines = [_row(picture) for picture in rows]
    shown = np.stack([line.maps for line in lines])
    # only what stands out: the labels are on top, and still most patches show something else
    scale = Scale(float(np.quantile(shown, 0.75)), float(shown.max()))
    target.write_bytes(to_png(draw_sheet(lines, grid, scale, patch["layers"])))


def _varied(told: list[LensPicture]) -> list[LensPicture]:
    """SHEET_ROWS of the pictures, of every settle layer in turn, so that each kind of course is seen."""
    turns: dict[int | None, int] = {}
    placed = []
    for place, picture in enumerate(told):
        settled = picture.item["top"]["settle_layer"]
        turns[settled] = turns.get(settled, 0) + 1
        placed.append((turns[settled], place, picture))
    chosen = sorted(placed, key=lambda each: each[:2])[:SHEET_ROWS]
    return [picture for _, _, picture in sorted(chosen, key=lambda each: each[1])]


def _row(picture: LensPicture) -> SheetRow:
    assert picture.thumbnail is not None
    assert picture.maps is not None
    item = picture.item
    pooled, layers = item["pooled"], item["patch"]["layers"]
    label = pooled["labels"].index(item["top"]["label"])
    return SheetRow(
        picture=open_thumbnail(picture.thumbnail),
        label=caption(item["top"]["label"], label),
        maps=picture.maps[:, label],
        pooled=np.array([pooled["cosine"][pooled["layers"].index(layer)][label] for layer in layers]),
        # the first column from which on the label stays on top: not every layer has a map
        settle_layer=next((layer for layer in layers if layer >= item["top"]["settle_layer"]), None),
    )
