"""A lens as tables at the terminal."""

from typing import Any

from rich.markup import escape
from rich.table import Table

from cli.console import console

SHOWN_LABELS = 4
SHOWN_PICTURES = 40


def show_layers(item: dict[str, Any], true_labels: tuple[str, ...]) -> None:
    """Layer x label of one picture: the cosines of the labels that are best at the end."""
    pooled = item["pooled"]
    final = pooled["cosine"][-1]
    best = sorted(range(len(final)), key=lambda label: -final[label])[:SHOWN_LABELS]
    shows = f" (it shows: {', '.join(true_labels)})" if true_labels else ""
    table = Table(title=escape(f"{item['custom_id']}{shows}: cosine by layer"))
    table.add_column("layer", justify="right")
    table.add_column("on top", no_wrap=True)
    for label in best:
        table.add_column(escape(pooled["labels"][label]), justify="right")
    rows = zip(pooled["layers"], item["top"]["label_by_layer"], pooled["cosine"], strict=True)
    for layer, top, scores in rows:
        cells = [
            f"[bold green]{scores[label]:+.3f}[/]"
            if pooled["labels"][label] == top
            else f"{scores[label]:+.3f}"
            for label in best
        ]
        table.add_row(str(layer), escape(top), *cells)
    console.print(table)


def show_settling(items: list[dict[str, Any]], true_labels: dict[str, tuple[str, ...]]) -> None:
    """Each picture's final label and the layer from which it stays on top."""
    known = any(true_labels.values())
    table = Table(title="From which layer the final label stays on top")
    table.add_column("picture")
    if known:
        table.add_column("it shows")
    table.add_column("top label")
    table.add_column("settle layer", justify="right")
    for item in items[:SHOWN_PICTURES]:
        truth = true_labels.get(item["custom_id"], ())
        row = [escape(item["custom_id"]), *([escape(", ".join(truth))] if known else [])]
        if item["state"] == "failed":
            table.add_row(*row, f"[red]{item['error']['code']}[/]", "")
            continue
        top = item["top"]
        mark = "green" if top["label"] in truth else "yellow" if truth else "default"
        table.add_row(*row, f"[{mark}]{escape(top['label'])}[/]", str(top["settle_layer"]))
    console.print(table)
    if len(items) > SHOWN_PICTURES:
        console.print(f"... and {len(items) - SHOWN_PICTURES} more, in the results.")
