"""Every metric of the API and of workers, from what declares it."""

from collections.abc import Iterator
from types import ModuleType
from typing import Final

from prometheus_client.metrics import MetricWrapperBase

from api import metrics as of_api
from handbook.docstrings import row
from worker import metrics as of_workers

MODEL: Final = "model"
HEAD: Final = """\
# Metrics

What `api/metrics.py` and `worker/metrics.py` declare. How they are collected, and what is worth an alert, is
told in [Watch the service](../how-to/monitor.md). Each process also tells `process_*`: its memory, processor
time, open files and start.
"""
SECTIONS: Final = (
    (
        "The API",
        "At `/metrics` of every API process. Counters and histograms are that process's own.",
        of_api,
    ),
    (
        "Workers",
        "At `/metrics` of a worker's `LENSQUEUE_METRICS_PORT`; all have the label `model`.",
        of_workers,
    ),
)


def names_of(module: ModuleType) -> dict[str, MetricWrapperBase]:
    """All that is declared there, by the names that samples have."""
    return {
        _name(metric): metric for metric in vars(module).values() if isinstance(metric, MetricWrapperBase)
    }


def labels_of(module: ModuleType, metric: MetricWrapperBase) -> tuple[str, ...]:
    """The labels of its samples."""
    own = tuple(metric._labelnames)  # noqa: SLF001 - the library tells the labels of no samples nowhere else
    return (MODEL, *own) if module is of_workers else own


def page() -> str:
    """The page, whole."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield HEAD
    for title, told, module in SECTIONS:
        yield f"## {title}\n\n{told}\n"
        yield row("metric", "kind", "labels", "what it says") + "\n|---|---|---|---|"
        for name, metric in names_of(module).items():
            (family,) = metric.describe()
            labels = ", ".join(f"`{label}`" for label in labels_of(module, metric))
            yield row(f"`{name}`", family.type, labels, family.documentation)
        yield ""
    shared = ", ".join(f"`{_name(gauge)}`" for gauge in of_api.OF_THE_LEDGER)
    yield "## Of the ledger\n"
    yield f"{shared} are read from the database, and the same whichever API process says them: take"
    yield "`max by (model)`, never the sum. They are read when they are asked for, at most every five"
    yield "seconds.\n"


def _name(metric: MetricWrapperBase) -> str:
    (family,) = metric.describe()
    return f"{family.name}_total" if family.type == "counter" else str(family.name)
