"""Measure what a span, a log line and a metric cost, beside the bare libraries, in one run.

    python tools/bench/observability.py

Microseconds of CPU a call, the least and the first quartile of interleaved rounds, once without an
OpenTelemetry SDK and once with one that records everything and exports nothing. Bare is the same
with OpenTelemetry, structlog or, for what is bound, prometheus_client alone. Below, a scrape of
1,000 tenants: how long it takes, and how long it keeps the event loop from turning.
"""

from __future__ import annotations

import asyncio
import io
import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec

import structlog
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from motadata.core.errors import CacheError
from motadata.core.observability import (
    configure_observability,
    counter,
    database_call,
    extract_trace,
    get_logger,
    histogram,
    inject_trace,
    model_call,
    redact,
    render_metrics,
    span,
)
from motadata.core.tenancy import tenant_scope


_ROUNDS = 15
_CALLS = 1_000
_TENANTS = 1_000
_BOUNDARIES = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]
_FACTS = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o"}
_HEADERS = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "foo=1,bar=2",
}

Work = Callable[[], object]


class Nowhere(io.StringIO):
    """Takes lines and forgets them."""

    def write(self, text: str) -> int:
        """Forget."""
        return len(text)


def main() -> None:
    """Measure and print."""
    configure_observability(stream=Nowhere())
    ours, bare = our_calls(), bare_calls()
    print(f"{'us of CPU a call':34}{'min':>8}{'p25':>8}{'bare':>8}{'p25':>8}{'ratio':>8}")
    measure("without an SDK", ours, bare)
    trace.set_tracer_provider(recording_provider())
    metrics.set_meter_provider(MeterProvider([InMemoryMetricReader()]))
    measure("with an SDK", ours, bare)
    if find_spec("prometheus_client"):
        asyncio.run(scrape())


def recording_provider() -> TracerProvider:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SpanProcessor())
    return provider


def our_calls() -> dict[str, Work]:
    log = get_logger("bench")
    jobs = counter("bench.jobs", unit="{job}")
    times = histogram("bench.times", unit="s", boundaries=_BOUNDARIES)
    bound = jobs.bind(_FACTS, tenant_id="acme")
    bound_times = times.bind(_FACTS, tenant_id="acme")

    def one_span() -> None:
        with span("bench.work", _FACTS, kind="client"):
            pass

    def nested_spans() -> None:
        with span("bench.outer"), span("bench.inner", _FACTS, kind="client"):
            pass

    def one_model_call() -> None:
        with model_call("chat", model="gpt-4o", provider="openai"):
            pass

    def one_database_call() -> None:
        with database_call("SELECT", collection="documents"):
            pass

    def read_headers() -> None:
        with extract_trace(_HEADERS):
            pass

    return {
        "span": in_scope(one_span),
        "span within a span": in_scope(nested_spans),
        "model_call (span + histogram)": in_scope(one_model_call),
        "database_call (span + histogram)": in_scope(one_database_call),
        "log line, JSON": in_scope(lambda: log.info("stored", chunks=3, route="/v1/query")),
        "log line below the level": in_scope(lambda: log.debug("stored", chunks=3)),
        "redaction of a text": lambda: redact("route", "/v1/documents of somebody"),
        "counter": in_scope(lambda: jobs.add(1, _FACTS)),
        "counter, bound": bound.add,
        "histogram": in_scope(lambda: times.record(0.02, _FACTS)),
        "histogram, bound": lambda: bound_times.record(0.02),
        "read trace headers": read_headers,
        "write trace headers": in_span(lambda: inject_trace({})),
        "error made in a span": in_span(lambda: CacheError("It failed.")),
    }


def bare_calls() -> dict[str, Work]:
    tracer, meter = trace.get_tracer("bare"), metrics.get_meter("bare")
    facts = {**_FACTS, "tenant": "acme"}
    jobs = meter.create_counter("bare.jobs")
    times = meter.create_histogram("bare.times", explicit_bucket_boundaries_advisory=_BOUNDARIES)
    log = structlog.wrap_logger(
        structlog.PrintLogger(Nowhere()),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.JSONRenderer(),
        ],
    ).bind(component="bench", tenant="acme", trace_id="0" * 32, span_id="0" * 16)
    propagator = TraceContextTextMapPropagator()

    def one_span() -> None:
        with tracer.start_as_current_span("work", kind=trace.SpanKind.CLIENT, attributes=facts):
            pass

    def nested_spans() -> None:
        with tracer.start_as_current_span("outer"):
            one_span()

    def timed_span() -> None:
        started = time.perf_counter()
        one_span()
        times.record(time.perf_counter() - started, facts)

    return {
        "span": one_span,
        "span within a span": nested_spans,
        "model_call (span + histogram)": timed_span,
        "database_call (span + histogram)": timed_span,
        "log line, JSON": lambda: log.info("stored", chunks=3, route="/v1/query"),
        "counter": lambda: jobs.add(1, facts),
        "counter, bound": bare_prometheus_counter(),
        "histogram": lambda: times.record(0.02, facts),
        "histogram, bound": bare_prometheus_histogram(),
        "read trace headers": lambda: propagator.extract(_HEADERS),
        "write trace headers": in_span(lambda: propagator.inject({})),
    }


def bare_prometheus_counter() -> Work:
    if not find_spec("prometheus_client"):
        return lambda: None
    from prometheus_client import CollectorRegistry, Counter

    made = Counter("bare_jobs", "Jobs.", ["tenant", "model"], registry=CollectorRegistry())
    child = made.labels("acme", "gpt-4o")
    return child.inc


def bare_prometheus_histogram() -> Work:
    if not find_spec("prometheus_client"):
        return lambda: None
    from prometheus_client import CollectorRegistry, Histogram

    made = Histogram(
        "bare_times",
        "Times.",
        ["tenant", "model"],
        registry=CollectorRegistry(),
        buckets=_BOUNDARIES,
    )
    child = made.labels("acme", "gpt-4o")
    return lambda: child.observe(0.02)


def in_scope(work: Work) -> Work:
    """Mark what runs for a tenant; the scope is entered once a round."""
    work.__dict__["scoped"] = True
    return work


def in_span(work: Work) -> Work:
    """Mark what runs within a span, which is entered once a round."""
    work.__dict__["spanned"] = True
    return work


def measure(title: str, ours: dict[str, Work], bare: dict[str, Work]) -> None:
    """Print one table; ours and theirs take turns."""
    print(f"\n{title}")
    for name, work in ours.items():
        peer = bare.get(name)
        mine: list[float] = []
        theirs: list[float] = []
        for _ in range(_ROUNDS):
            mine.append(one_round(work))
            if peer is not None:
                theirs.append(one_round(peer))
        row = f"{name:34}{min(mine):8.2f}{quarter(mine):8.2f}"
        if theirs:
            ratio = min(mine) / min(theirs)
            row += f"{min(theirs):8.2f}{quarter(theirs):8.2f}{ratio:8.2f}"
        print(row)


def quarter(rounds: list[float]) -> float:
    return statistics.quantiles(rounds, n=4)[0]


def one_round(work: Work) -> float:
    """Return the microseconds of CPU that a call takes."""
    marks = getattr(work, "__dict__", {})
    if marks.get("spanned"):
        with span("bench.around"):
            return timed(work)
    if marks.get("scoped"):
        with tenant_scope("acme"):
            return timed(work)
    return timed(work)


def timed(work: Work) -> float:
    started = time.process_time()
    for _ in range(_CALLS):
        work()
    return (time.process_time() - started) / _CALLS * 1e6


async def scrape() -> None:
    """Scrape what 1,000 tenants did, in a thread, while the loop turns."""
    configure_observability(prometheus=True, stream=Nowhere())
    times = histogram("bench.scraped", unit="s", boundaries=_BOUNDARIES)
    for number in range(_TENANTS * 3):
        times.record(0.02, tenant_id=f"tenant-{number % _TENANTS}")
    await render_metrics()
    started = last = time.perf_counter()
    rendering = asyncio.create_task(render_metrics())
    longest = 0.0
    while not rendering.done():
        await asyncio.sleep(0)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    page = await rendering
    print(
        f"\na scrape of {_TENANTS:,} tenants: {(time.perf_counter() - started) * 1e3:.0f} ms, "
        f"{len(page.body) / 1024:.0f} KiB, the loop stood still for at most {longest * 1e3:.0f} ms"
    )


if __name__ == "__main__":
    main()
