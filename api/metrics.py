"""All that an API process measures, in the words of Prometheus: `GET /metrics` says them.

Counters are this process's own. Gauges are set when they are asked for, see `api.readings`. What labels can
be is bounded by the code and the catalog: models, routes, states; never a tenant, a key or an id.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from sqlalchemy.orm import Session
from starlette.types import Scope

from api.exchange import Exchange
from jobs.maintenance import Duty
from jobs.recovery import Expiry, fail_hopeless, judge_struck

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""A client may make up others."""
NO_ROUTE: Final = "none"
SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

REGISTRY: Final = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

REQUESTS: Final = Counter(
    "lensqueue_http_requests_total",
    "Requests that were answered.",
    ("method", "route", "status"),
    registry=REGISTRY,
)
REQUEST_SECONDS: Final = Histogram(
    "lensqueue_http_request_duration_seconds",
    "How long they took, to the last byte: polls that wait and events as long as their clients asked for.",
    ("method", "route"),
    buckets=SECONDS,
    registry=REGISTRY,
)
TURN_SECONDS: Final = Histogram(
    "lensqueue_turn_wait_seconds",
    "How long was waited for a turn at the connections to the database, by those who had to wait.",
    ("turns",),
    buckets=SECONDS,
    registry=REGISTRY,
)
TURNS_WAITING: Final = Gauge(
    "lensqueue_turns_waiting", "Requests that wait for such a turn now.", ("turns",), registry=REGISTRY
)
SPOOL_BYTES: Final = Gauge(
    "lensqueue_spool_bytes",
    "Bodies that are being read (`bodies`), and archives on their way to the blob store (`archives`).",
    ("spool",),
    registry=REGISTRY,
)
SPOOL_LIMIT_BYTES: Final = Gauge(
    "lensqueue_spool_limit_bytes", "How much of them there may be.", ("spool",), registry=REGISTRY
)
STREAMS: Final = Gauge(
    "lensqueue_event_streams", "Clients that follow the events of a job.", registry=REGISTRY
)
POLLS: Final = Gauge("lensqueue_polls_waiting", "Polls that wait for news of a job.", registry=REGISTRY)
LEASES_EXPIRED: Final = Counter(
    "lensqueue_leases_expired_total",
    "Leases that ran out: their workers fell silent, and the work waits again.",
    registry=REGISTRY,
)
UNITS_STRUCK: Final = Counter(
    "lensqueue_units_struck_total",
    "Units of work that ended a healthy worker: parted into single items, or failed as `worker-crashed`.",
    registry=REGISTRY,
)
UNITS_HOPELESS: Final = Counter(
    "lensqueue_units_hopeless_total",
    "Units of work that were lost ten times, and failed as `worker-lost` or `inference-failed`.",
    registry=REGISTRY,
)
LEDGER_UP: Final = Gauge(
    "lensqueue_ledger_up",
    "Whether the database could be asked for what follows; where it is 0, that is left out.",
    registry=REGISTRY,
)
QUEUE_WAITING: Final = Gauge(
    "lensqueue_queue_waiting_items",
    "Items that wait, of the first 5,000 units of work of each model.",
    ("model",),
    registry=REGISTRY,
)
QUEUE_RUNNING: Final = Gauge(
    "lensqueue_queue_running_items", "Items that workers hold.", ("model",), registry=REGISTRY
)
QUEUE_OLDEST_SECONDS: Final = Gauge(
    "lensqueue_queue_oldest_wait_seconds",
    "How long what has waited longest waits already, of those units; 0 where nothing does.",
    ("model",),
    registry=REGISTRY,
)
QUEUE_PAUSED: Final = Gauge(
    "lensqueue_queue_paused", "1 where somebody paused the queue.", ("model",), registry=REGISTRY
)
WORKERS: Final = Gauge(
    "lensqueue_workers",
    "Workers that were seen in the last day, by what they are now.",
    ("model", "state"),
    registry=REGISTRY,
)
OPEN_JOBS: Final = Gauge(
    "lensqueue_open_jobs",
    "Jobs that have not ended, of the oldest 10,000 in each state.",
    ("model", "state"),
    registry=REGISTRY,
)
RECENT_JOBS: Final = Gauge(
    "lensqueue_recent_jobs",
    "Jobs of the last ten minutes: those that were `submitted`, and those that ended, by their state.",
    ("model", "state"),
    registry=REGISTRY,
)

OF_THE_LEDGER: Final = (
    QUEUE_WAITING,
    QUEUE_RUNNING,
    QUEUE_OLDEST_SECONDS,
    QUEUE_PAUSED,
    WORKERS,
    OPEN_JOBS,
    RECENT_JOBS,
)
"""The same whichever API process is asked: take `max by (model)`, not the sum."""


def count_request(scope: Scope, exchange: Exchange) -> None:
    """A request was answered."""
    method = scope["method"] if scope["method"] in METHODS else "other"
    path = getattr(scope.get("route"), "path", None)
    # as it is declared; pages of the dashboard behind the path that they are mounted at
    route = NO_ROUTE if path is None else f"{scope.get('root_path', '')}{path}"
    REQUESTS.labels(method, route, str(exchange.status)).inc()
    REQUEST_SECONDS.labels(method, route).observe(exchange.duration_ms / 1000)


def counted(duties: Sequence[Duty]) -> list[Duty]:
    """The duties, of which some count what they did."""
    return [_counting(duty, counter) if (counter := _counter_of(duty)) else duty for duty in duties]


def _counter_of(duty: Duty) -> Counter | None:
    if isinstance(duty.run, Expiry):
        return LEASES_EXPIRED
    if duty.run is judge_struck:
        return UNITS_STRUCK
    return UNITS_HOPELESS if duty.run is fail_hopeless else None


def _counting(duty: Duty, counter: Counter) -> Duty:
    run: Callable[[Session], int] = duty.run

    def run_and_count(session: Session) -> int:
        # before the commit: what is undone because that fails is counted twice
        done = run(session)
        counter.inc(done)
        return done

    return replace(duty, run=run_and_count)
