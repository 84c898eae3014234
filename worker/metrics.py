"""All that a worker measures, in the words of Prometheus, and the small server that tells it.

It is the child that measures and serves: it has the model. While there is none, the port is closed, and
another child begins to count anew. What labels can be is bounded by this code.
"""

import threading
import time
from collections.abc import Iterator
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, ProcessCollector
from prometheus_client.exposition import start_http_server
from prometheus_client.registry import Collector

log = structlog.get_logger()

RETRY_SECONDS: Final = 5.0
SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

REGISTRY: Final = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

INFO: Final = Gauge(
    "lensqueue_worker_info",
    "1, with the device and the numbers of its products.",
    ("device", "dtype"),
    registry=REGISTRY,
)
STAGE_SECONDS: Final = Histogram(
    "lensqueue_worker_stage_seconds",
    "How long the stages of work took: `claim`, `decode` (as far as the model waited for it), `labels` (from"
    " texts to directions), `forward` (a pass with its lens), `store`; of an analyst, `unit`.",
    ("stage",),
    buckets=SECONDS,
    registry=REGISTRY,
)
CLAIMS: Final = Counter(
    "lensqueue_worker_claims_total",
    "Claims by how they ended: `completed`, `released` (for another try), `abandoned` (nobody wanted it any"
    " more, or its lease was lost), `lost` (its results came too late).",
    ("outcome",),
    registry=REGISTRY,
)
ITEMS: Final = Counter(
    "lensqueue_worker_items_total",
    "Items that were finished: `succeeded` or `failed`.",
    ("outcome",),
    registry=REGISTRY,
)
BATCH_ITEMS: Final = Counter(
    "lensqueue_worker_batch_items_total", "Items that went through forward passes.", registry=REGISTRY
)
BATCH_PLACES: Final = Counter(
    "lensqueue_worker_batch_places_total",
    "How many could have, in the same passes: the quotient is how full batches are.",
    registry=REGISTRY,
)
HEARTBEATS: Final = Counter(
    "lensqueue_worker_heartbeats_total",
    "Heartbeats that reached the ledger (`told`), and that did not (`missed`).",
    ("outcome",),
    registry=REGISTRY,
)
STALLS: Final = Counter(
    "lensqueue_worker_stalls_total",
    "How often work took no step for so long that its leases were renewed no more.",
    registry=REGISTRY,
)
MEMORY_BYTES: Final = Gauge(
    "lensqueue_worker_memory_bytes",
    "Memory of the GPU that is taken, by whomever; without one, what the process takes.",
    registry=REGISTRY,
)
MEMORY_LIMIT_BYTES: Final = Gauge(
    "lensqueue_worker_memory_limit_bytes", "How much of it there is.", registry=REGISTRY
)


class OfModel(Collector):
    """All of them, with the model as one more label: a process has one."""

    def __init__(self, model: str) -> None:
        self._model = model

    def collect(self) -> Iterator[Metric]:
        """Every family, for whoever renders them."""
        for family in REGISTRY.collect():
            family.samples = [
                sample._replace(labels={**sample.labels, "model": self._model}) for sample in family.samples
            ]
            yield family


def serve(model: str, host: str, port: int) -> None:
    """Tell them under `http://host:port/metrics` for as long as the process lives; nothing at port 0.

    A port that is taken is tried again and again: whoever was here before may not be gone yet, and to work
    without metrics is better than not to.
    """
    if port:
        threading.Thread(
            target=_serve, args=(OfModel(model), host, port), name="metrics", daemon=True
        ).start()


def _serve(collector: Collector, host: str, port: int) -> None:
    told = CollectorRegistry()
    told.register(collector)
    said = False
    while True:
        try:
            start_http_server(port, host, told)
        except OSError as error:
            if not said:
                log.warning("metrics.port_taken", host=host, port=port, error=str(error))
                said = True
            time.sleep(RETRY_SECONDS)
        else:
            log.info("metrics.served", host=host, port=port)
            return
