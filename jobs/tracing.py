"""Traces by OpenTelemetry: one from a submit to its result, over the API and the workers.

Nothing of it is imported, and nothing costs anything, unless the extra `otel` is installed and the
environment names a collector, by OpenTelemetry's own variables. Which trace a job belongs to is stored with
it: a message may be lost, and the ledger is the truth.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

log = structlog.get_logger()

COLLECTORS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
FLUSH_MS: Final = 2_000
HEADER: Final = "traceparent"


class Stage(NamedTuple):
    """A part of work, and when it began and ended, in nanoseconds of Unix time."""

    name: str
    since_ns: int
    until_ns: int


_providers: list["TracerProvider"] = []


def configure(service: str) -> None:
    """Send traces to the collector that the environment names, if it names one."""
    if _providers or not any(os.environ.get(name) for name in COLLECTORS):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - of an extra
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - likewise
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - likewise
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - likewise
    except ImportError:
        log.warning("traces.not_installed", what="the extra `otel`")
        return
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    use(provider)


def use(provider: "TracerProvider | None") -> None:
    """Make spans by this one from now on; by none, make none."""
    _providers[:] = [] if provider is None else [provider]


def flush() -> None:
    """Send what is left, but wait for no collector that does not answer."""
    for provider in _providers:
        provider.force_flush(FLUSH_MS)


def is_on() -> bool:
    """Whether anybody is told of spans."""
    return bool(_providers)


@contextmanager
def request_span(headers: Mapping[str, str]) -> Iterator["Span | None"]:
    """A span around the answer to a request, part of its client's trace if that has one; None where off."""
    if not _providers:
        yield None
        return
    from opentelemetry.trace import SpanKind, use_span  # noqa: PLC0415 - of an extra

    told = {HEADER: headers[HEADER]} if HEADER in headers else {}
    span = _tracer().start_span("request", context=_context_of(told), kind=SpanKind.SERVER)
    with use_span(span, end_on_exit=True):
        yield span


def traceparent() -> str | None:
    """The span that is open here, for whoever goes on with its trace elsewhere."""
    if not _providers:
        return None
    carrier: dict[str, str] = {}
    _propagator().inject(carrier)
    return carrier.get(HEADER)


def tell_work(parent: str, stages: Sequence[Stage], attributes: Mapping[str, str | int]) -> None:
    """Make the spans of work that is over, as part of the trace of the request that it was submitted with."""
    from opentelemetry.trace import SpanKind, set_span_in_context  # noqa: PLC0415 - of an extra

    tracer = _tracer()
    work = tracer.start_span(
        "work",
        context=_context_of({HEADER: parent}),
        kind=SpanKind.CONSUMER,
        start_time=stages[0].since_ns,
        attributes=attributes,
    )
    within = set_span_in_context(work)
    for stage in stages:
        tracer.start_span(stage.name, context=within, start_time=stage.since_ns).end(stage.until_ns)
    work.end(max(stage.until_ns for stage in stages))


def _tracer() -> "Tracer":
    return _providers[0].get_tracer("lensqueue")


def _context_of(carrier: Mapping[str, str]) -> "Context":
    from opentelemetry.context import Context  # noqa: PLC0415 - of an extra

    # from nothing: what is open here is not its parent
    return _propagator().extract(carrier, Context())


def _propagator() -> "TraceContextTextMapPropagator":
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415 - likewise

    return TraceContextTextMapPropagator()
