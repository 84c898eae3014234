"""Lens jobs to be told, and the page that tells them taken apart: what tests of the report share."""

import io
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from analysis.facts import LensPicture, LensReport

ROOT = Path(__file__).resolve().parents[1]
LABELS = ("cyan ring", "red heart", "blue star", "green cross", "pink arrow", "black square", "white circle")
LAYERS = tuple(range(7))
HOSTILE = (
    "<script>alert('label')</script>",
    "\"quoted\" & 'single'",
    "</style><img src=x onerror=alert(1)>",
    "قطة نائمة",
    "\u202eexe.gnp",
    "👩\u200d👩\u200d👧 family",
    "{{ 7 * 7 }}",
    "x" * 1000,
)


class Page(HTMLParser):
    """What a browser would see: tags with their attributes, the text between, the rows of tables."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.rows: list[list[str]] = []
        self._cell = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        elif tag in {"th", "td"}:
            self.rows[-1].append("")
            self._cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in {"th", "td"}:
            self._cell = False

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self._cell:
            self.rows[-1][-1] += data

    def attributes(self, name: str) -> list[str]:
        return [value or "" for _, attrs in self.tags for key, value in attrs.items() if key == name]


def jpeg(side: tuple[int, int] = (60, 40), **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize(side).convert("RGB").save(buffer, "JPEG", **options)
    return buffer.getvalue()


def picture(
    name: str = "a.jpg",
    *,
    labels: Sequence[str] = LABELS,
    true: tuple[str, ...] = (),
    seed: int = 1,
    thumbnail: bytes | None = None,
    mapped: bool = False,
    grid: tuple[int, int, int, int] = (10, 10, 8, 80),
) -> LensPicture:
    """A picture whose scores are noise, in the API's shape; its facts follow from the scores."""
    noise = np.random.default_rng(seed)
    cosine = noise.uniform(-0.4, 0.4, (len(LAYERS), len(labels)))
    logit = 22.7 * cosine[-1] - 5.1
    top = cosine.argmax(axis=1)
    settle = max((layer + 1 for layer in LAYERS if top[layer] != top[-1]), default=0)
    ranked = np.sort(cosine[-1])
    item: dict[str, Any] = {
        "index": 0,
        "custom_id": name,
        "state": "succeeded",
        "width": 60,
        "height": 40,
        "pooled": {
            "layers": list(LAYERS),
            "labels": list(labels),
            "cosine": cosine.tolist(),
            "final": {"logit": logit.tolist(), "match_probability": (1 / (1 + np.exp(-logit))).tolist()},
        },
        "top": {
            "label": labels[top[-1]],
            "tied": False,
            "margin": float(ranked[-1] - ranked[-2]) if len(labels) > 1 else None,
            "settle_layer": int(settle),
            "label_by_layer": [labels[each] for each in top],
        },
    }
    maps = None
    if mapped:
        rows, cols, patch_size, image_size = grid
        maps = noise.uniform(-0.5, 0.5, (len(LAYERS), len(labels), rows, cols)).astype(np.float32)
        item["patch"] = {
            "layers": list(LAYERS),
            "labels": list(labels),
            "grid": [rows, cols],
            "patch_size": patch_size,
            "image_size": image_size,
            "method": "head",
            "scale": {"low": -0.5, "high": 0.5},
        }
    return LensPicture(name, name, true, item, thumbnail, maps)


def failed(name: str, code: str, message: str) -> LensPicture:
    error = {"code": code, "message": message, "retryable": False}
    return LensPicture(name, name, (), {"index": 1, "state": "failed", "error": error})


def job(pictures: Sequence[LensPicture], **changes: Any) -> dict[str, Any]:
    succeeded = sum(each.item["state"] == "succeeded" for each in pictures)
    progress = {
        "total": len(pictures),
        "succeeded": succeeded,
        "failed": len(pictures) - succeeded,
        "dropped": 0,
    }
    return {
        "id": "job_x",
        "state": "succeeded",
        "model": "lensqueue/siglip-tiny-shapes",
        "progress": progress,
        "created_at": "2026-01-02T03:04:05.678901Z",
        "started_at": "2026-01-02T03:04:06Z",
        "ended_at": None,
        "provenance": {
            "weights_sha256": "2501b260",
            "dtype": "float32",
            "logit_scale": 22.7,
            "logit_bias": -5.1,
            "pixel_path": {"pillow": "13.0.0", "image_mean": [0.5, 0.5, 0.5]},
            "template": "a photo of a {}",
            "prompts": [f"a photo of a {label}" for label in LABELS],
        },
        **changes,
    }


def report(*pictures: LensPicture, labels: tuple[str, ...] = LABELS, **changes: Any) -> LensReport:
    return LensReport("A title", job(pictures, **changes), pictures, labels)


def text_of(page: Page) -> str:
    return " ".join("".join(page.texts).split())
