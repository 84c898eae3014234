"""Summaries of made-up image sets: what tests of the report of a set share."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis.set_report.facts import Example, LabelPlate, LateMaps, LayerMap, Points, Supplement
from analysis.set_report.picks import EXAMPLES_SHOWN
from analysis.set_report.plates import PLATES_SHOWN
from analysis.sets.facts import UNLABELLED, FailedItem
from analysis.sets.schema import Summary
from tests.reports import jpeg

COLOURS = ("red", "orange", "yellow", "green", "cyan")
SHAPES = ("circle", "square", "triangle", "star", "heart", "ring")
DEMO_LABELS = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)[:29]
CODES = {"image-truncated": 12, "not-an-image": 6, "image-too-large": 2}


def make_summary(
    labels: Sequence[str] = DEMO_LABELS,
    *,
    layers: int = 7,
    images: int = 1000,
    labelled: bool = True,
    failed: Mapping[str, int] | None = None,
    seed: int = 3,
    **changes: Any,
) -> Summary:
    """A summary whose parts agree with each other as far as a reader can see; `changes` replace parts."""
    noise = np.random.default_rng(seed)
    errors = CODES if failed is None else failed
    true = noise.integers(0, len(labels), images) if labelled else np.full(images, UNLABELLED)
    top = noise.integers(0, len(labels), (layers, images))
    keen = noise.random((layers, images)) < np.linspace(0.1, 0.9, layers)[:, None]
    top = np.where(keen & labelled, true, top)
    changed = top != top[-1]
    settle = np.where(changed.any(axis=0), layers - changed[::-1].argmax(axis=0), 0)
    right = top == true
    known = int((true != UNLABELLED).sum())
    facts: dict[str, Any] = {
        "job_id": "job_" + "0a" * 16,
        "version_id": "ver_" + "0b" * 16,
        "manifest_sha256": "0c" * 32,
        "model": {"id": "lensqueue/siglip-tiny-shapes", "dtype": "float32", "layers": layers, "grid": 10},
        "labels": list(labels),
        "counts": {
            "total": images + sum(errors.values()),
            "unique": max(0, images - 4),
            "succeeded": images,
            "failed": sum(errors.values()),
            "by_error": dict(errors),
            "labelled": known,
        },
        "layers": [_layer(at, layers, labels, top, right, known) for at in range(layers)],
        "baselines": {
            "chance": 1 / len(labels),
            "majority": 0.0625 if known else None,
            "majority_label": labels[0] if known else None,
        },
        "classes": _classes(labels, true, top, right, settle),
        "confusion": _confusion(labels, true, top[-1], known),
        "settle": _settle(layers, labels, true, top, settle),
        "duplicates": _duplicates(labels, images),
        "outliers": _outliers(labels, true, top[-1]),
        "label_candidates": _candidates(labels, true, top[-1], known),
        "label_maps": _label_maps(labels) if labelled and images else None,
        "comparison": None,
        "drift": None,
        "warnings": [],
        "seed": seed,
        "exports": [
            {
                "name": name,
                "media_type": "application/vnd.apache.parquet",
                "rows": images,
                "size_bytes": 91_234,
                "sha256": "0d" * 32,
            }
            for name in ("items.parquet", "layers.parquet", "embeddings.parquet", "errors.jsonl")
        ],
    }
    return Summary.model_validate({**facts, **changes})


def make_supplement(summary: Summary, *, points: int = 200, **changes: Any) -> Supplement:
    """All that a page can show beside a summary."""
    noise = np.random.default_rng(1)
    labels, layers = summary.labels, len(summary.layers)
    failed = [
        FailedItem(
            summary.counts.succeeded + at, f"broken-{at}.jpg", UNLABELLED, code, f"Reason {at} of {code}."
        )
        for at, code in enumerate(
            code for code, number in summary.counts.by_error.items() for _ in range(number)
        )
    ]
    examples = [
        Example(
            item.index,
            item.custom_id,
            item.true_label,
            {label: noise.integers(1, len(labels) + 1, layers).tolist() for label in labels[:4]},
        )
        for item in summary.settle.late[:EXAMPLES_SHOWN]
    ]
    maps = LateMaps(
        {item.index: [LayerMap(0, item.before, PNG)] for item in summary.settle.late}, 0, "value", 960, 0.3
    )
    true = noise.integers(-1, len(labels), points).astype(np.int32)
    top = np.where(noise.random(points) < 0.8, true, 0).astype(np.int32)
    dots = Points(noise.normal(size=(points, 2)), true, top, "Final embeddings, laid out by chance.")
    told = summary.label_maps
    plates = (
        [
            LabelPlate(each.label, noise.normal(0, 0.1, told.grid).astype(np.float32))
            for each in told.labels[:PLATES_SHOWN]
        ]
        if told
        else []
    )
    given: dict[str, Any] = {
        "failed": failed,
        "examples": examples,
        "maps": maps,
        "points": dots,
        "label_maps": plates,
    }
    return Supplement(**{**given, **changes})


def pictures(index: int) -> bytes | None:
    """Every item has a picture but each seventh."""
    return jpeg((120, 80)) if index % 7 else None


PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010804000000b51c0c02"
    "0000000b4944415478da6364f80f00010501012718e3660000000049454e44ae426082"
)


def _label_maps(labels: Sequence[str]) -> dict[str, Any]:
    told = [
        {
            "label": label,
            "n": 40 - min(place, 30),
            "n_other": 900,
            "highest": 0.3,
            "row": place % 10,
            "col": 4,
            "lowest": -0.05,
        }
        for place, label in enumerate(labels)
    ]
    return {"layer": 6, "method": "value", "grid": [10, 10], "n": 960, "labels": told}


def _name(index: int) -> dict[str, Any]:
    return {"index": index, "custom_id": f"item-{index}"}


def _layer(at: int, layers: int, labels: Sequence[str], top: Any, right: Any, known: int) -> dict[str, Any]:
    common = np.bincount(top[at], minlength=len(labels))
    share = float(right[at].mean()) if known else None
    final = at == layers - 1
    flips = None
    if known and at:
        moved = top[at] != top[at - 1]
        flips = {
            "wrong_right": int((right[at] & ~right[at - 1]).sum()),
            "right_wrong": int((~right[at] & right[at - 1]).sum()),
            "wrong_wrong": int((moved & ~right[at] & ~right[at - 1]).sum()),
        }
    paired = None if final or share is None else {"difference": -0.25, "ci_low": -0.3, "ci_high": -0.2}
    return {
        "layer": at,
        "depth": at / max(1, layers - 1),
        "n": known,
        "top1": share,
        "ci_low": None if share is None else max(0.0, share - 0.03),
        "ci_high": None if share is None else min(1.0, share + 0.03),
        "method": None if share is None else "wilson",
        "top5": min(1.0, share + 0.1) if share is not None and len(labels) >= 10 else None,
        "balanced": share,
        "control": None if share is None else min(1.0, share + 0.15),
        "control_n": known,
        "macro_auroc": None if share is None else 0.75,
        "auroc_n": known,
        "most_predicted": labels[int(common.argmax())] if common.sum() else None,
        "most_predicted_share": float(common.max() / common.sum()) if common.sum() else None,
        "mean_top_margin": 0.3 + 0.1 * at if common.sum() and len(labels) > 1 else None,
        "mean_true_margin": -0.5 + 0.2 * at if known and len(labels) > 1 else None,
        "flips": flips,
        "minus_final": paired,
        "best_share": None if share is None else float(final),
        "worst_case": None if share is None else share * 0.98,
        "best_case": None if share is None else min(1.0, share + 0.02),
    }


def _classes(labels: Sequence[str], true: Any, top: Any, right: Any, settle: Any) -> list[dict[str, Any]]:
    found = []
    for label, name in enumerate(labels):
        own = true == label
        n = int(own.sum())
        predicted = int(((top[-1] == label) & (true != UNLABELLED)).sum())
        recall = float(right[-1, own].mean()) if n else None
        found.append(
            {
                "label": name,
                "n": n,
                "ranked": n >= 20,
                "recall": recall,
                "ci_low": None if recall is None else recall * 0.9,
                "ci_high": None if recall is None else recall * 0.9 + 0.1,
                "precision": float(right[-1, own].sum() / predicted) if predicted else None,
                "predicted": predicted,
                "recall_by_layer": right[:, own].mean(axis=1).tolist() if n else [],
                "settled_by_layer": [float((settle[own] <= at).mean()) for at in range(len(top))]
                if n
                else [],
                "median_settle_layer": float(np.median(settle[own])) if n else None,
            }
        )
    return sorted(found, key=lambda each: (not each["ranked"], each["recall"] or 0, -each["n"]))


def _confusion(labels: Sequence[str], true: Any, top: Any, known: int) -> dict[str, Any]:
    if not known:
        return {"n": 0, "matrix": [], "pairs": []}
    matrix = np.zeros((len(labels), len(labels)), int)
    np.add.at(matrix, (true, top), 1)
    wrong = matrix * (1 - np.eye(len(labels), dtype=int))
    pairs = []
    for cell in np.argsort(-wrong, axis=None, kind="stable")[:30]:
        row, column = divmod(int(cell), len(labels))
        if wrong[row, column]:
            items = np.flatnonzero((true == row) & (top == column))[:12].tolist()
            pairs.append(
                {
                    "true_label": labels[row],
                    "top": labels[column],
                    "count": int(wrong[row, column]),
                    "share": float(wrong[row, column] / matrix[row].sum()),
                    "items": [_name(index) for index in items],
                }
            )
    return {"n": known, "matrix": matrix.tolist(), "pairs": pairs}


def _settle(layers: int, labels: Sequence[str], true: Any, top: Any, settle: Any) -> dict[str, Any]:
    kinds = {
        "all": np.ones(len(true), bool),
        "right": (true != UNLABELLED) & (true == top[-1]),
        "wrong": (true != UNLABELLED) & (true != top[-1]),
    }
    curves = []
    for kind, which in kinds.items():
        counts = np.bincount(settle[which], minlength=layers)
        n = int(which.sum())
        curves.append(
            {
                "of": kind,
                "n": n,
                "counts": counts.tolist(),
                "cumulative": (counts.cumsum() / n).tolist() if n else [],
                "median": float(np.median(settle[which])) if n else None,
            }
        )
    late = [index for index in np.argsort(-settle, kind="stable")[:48].tolist() if settle[index]]
    return {
        "depth": [at / max(1, layers - 1) for at in range(layers)],
        "curves": curves,
        "late": [
            {
                **_name(index),
                "settle_layer": int(settle[index]),
                "before": labels[top[settle[index] - 1, index]],
                "top": labels[top[-1, index]],
                "true_label": None if true[index] == UNLABELLED else labels[true[index]],
            }
            for index in late
        ],
    }


def _duplicates(labels: Sequence[str], images: int) -> dict[str, Any]:
    groups = [
        {
            "size": 20 if at == 0 else 2,
            "items": [_name(12 * at + place) for place in range(12 if at == 0 else 2)],
            "exact": at % 2 == 0,
            "true_labels": list(labels[:2]) if at == 0 else [],
            "min_cosine": None if at % 2 == 0 else 0.9987,
        }
        for at in range(min(100, images // 12))
    ]
    return {
        "exact_groups": 2,
        "exact_extra": 4,
        "near_groups": 3,
        "near_images": 6,
        "contradicting_groups": 1,
        "cosine_threshold": 0.99,
        "threshold_method": "Made up.",
        "hash_bits": 6,
        "compared": images,
        "neighbours": 50,
        "groups": groups,
    }


def _outliers(labels: Sequence[str], true: Any, top: Any) -> dict[str, Any]:
    shown = range(min(50, len(true)))
    items = [
        {
            **_name(index),
            "score": 3 - 0.02 * index,
            "true_label": None if true[index] == UNLABELLED else labels[true[index]],
            "top": labels[top[index]],
        }
        for index in shown
    ]
    n = len(true)
    return {
        "n": n,
        "reference_n": n,
        "neighbours": 20 if n else 0,
        "median": 1.01 if n else None,
        "p99": 1.75 if n else None,
        "items": items,
    }


def _candidates(labels: Sequence[str], true: Any, top: Any, known: int) -> dict[str, Any]:
    suspects = np.flatnonzero(true != top).tolist() if known else []
    items = [
        {
            **_name(index),
            "true_label": labels[true[index]],
            "suggested": labels[top[index]],
            "true_probability": 0.01,
            "suggested_probability": 0.9,
            "top": labels[top[index]],
        }
        for index in suspects[:100]
    ]
    return {
        "n": known,
        "folds": 5 if known else 0,
        "probe_top1": 0.9 if known else None,
        "found": len(suspects),
        "items": items,
    }
