"""What all guard rails of one call cost together, layer by layer.

    python tools/bench/guard_rails.py [--rounds 25]

One call that does nothing goes through tenant scope, deadline, rate limit, retry with budget,
circuit breaker, span, metric and log: microseconds of CPU a call, least and 25th percentile of the
rounds. The layers are measured alone, in turns with the whole, first without an OpenTelemetry SDK
and then, in a process of its own, with one that batches spans for an exporter that drops them. Logs
are rendered as JSON, redacted and written to nowhere.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from asked import asked

from motadata.core.observability import (
    configure_observability,
    counter,
    get_logger,
    histogram,
    report_metrics_to,
    span,
)
from motadata.core.resilience import (
    AdaptiveLimit,
    Bulkhead,
    create_breakers,
    create_limiter,
    create_retry_budget,
    deadline_scope,
    retry,
)
from motadata.core.tenancy import tenant_scope


CALLS = 500
Layer = Callable[[], Awaitable[object]]

_log = get_logger("bench")
_calls = counter("bench.calls", unit="{call}", description="Calls.")
_seconds = histogram(
    "bench.duration", unit="s", description="Duration.", boundaries=[0.001, 0.01, 0.1, 1, 10]
)


async def work() -> str:
    """Do nothing, as a coroutine."""
    return "answer"


def make_layers() -> dict[str, Layer]:
    """Return each layer around `work`, and all of them."""
    limiter = create_limiter(1e9, 1e9)
    breakers = create_breakers()
    budget = create_retry_budget()
    bulkhead, adaptive = Bulkhead(100), AdaptiveLimit()

    async def scoped() -> str:
        with tenant_scope("acme"):
            return await work()

    async def timed() -> str:
        with deadline_scope(5.0):
            return await work()

    async def limited() -> str:
        await limiter.acquire(tenant_id="acme")
        return await work()

    async def retried() -> str:
        return await retry(work, budget=budget, tenant_id="acme")

    async def broken() -> str:
        async with breakers.guard("provider", tenant_id="acme"):
            return await work()

    async def contained() -> str:
        async with bulkhead.enter(tenant_id="acme"):
            return await work()

    async def adapted() -> str:
        async with adaptive.enter(tenant_id="acme"):
            return await work()

    async def traced() -> str:
        with span("bench.call", tenant_id="acme", dependency="provider") as current:
            answer = await work()
            current.set_attribute("answered", value=True)
            return answer

    async def counted() -> str:
        began = time.perf_counter()
        answer = await work()
        _calls.add(1, {"dependency": "provider"}, tenant_id="acme")
        _seconds.record(time.perf_counter() - began, {"dependency": "provider"}, tenant_id="acme")
        return answer

    async def logged() -> str:
        answer = await work()
        _log.info("call_answered", dependency="provider", tokens=17)
        return answer

    async def attempt() -> str:
        async with breakers.guard("provider"):
            return await work()

    async def whole() -> str:
        with (
            tenant_scope("acme"),
            deadline_scope(5.0),
            span("bench.call", dependency="provider") as current,
        ):
            began = time.perf_counter()
            await limiter.acquire()
            answer = await retry(attempt, budget=budget)
            current.set_attribute("answered", value=True)
            _calls.add(1, {"dependency": "provider"})
            _seconds.record(time.perf_counter() - began, {"dependency": "provider"})
            _log.info("call_answered", dependency="provider", tokens=17)
            return answer

    return {
        "nothing": work,
        "tenant scope": scoped,
        "deadline scope": timed,
        "limiter": limited,
        "retry with budget": retried,
        "breaker": broken,
        "span": traced,
        "counter and histogram": counted,
        "log": logged,
        "(bulkhead)": contained,
        "(adaptive limit)": adapted,
        "all together": whole,
    }


async def measure(rounds: int) -> dict[str, list[float]]:
    """Return microseconds a call of each layer, round by round."""
    layers = make_layers()
    times: dict[str, list[float]] = {name: [] for name in layers}
    for number in range(rounds + 1):
        for name, layer in layers.items():
            began = time.process_time()
            for _ in range(CALLS):
                await layer()
            if number:
                times[name].append((time.process_time() - began) / CALLS * 1e6)
    return times


def with_sdk() -> Callable[[], None]:
    """Install an SDK whose exporter drops everything; returns what ends it."""
    from opentelemetry import trace
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import (
        BatchSpanProcessor,
        SpanExporter,
        SpanExportResult,
    )

    class Nowhere(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:  # noqa: ARG002 - theirs
            return SpanExportResult.SUCCESS  # to nobody

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    trace.set_tracer_provider(provider)
    meters = MeterProvider([InMemoryMetricReader()])
    report_metrics_to(meters.get_meter("bench"))
    return provider.shutdown


def show(title: str, times: dict[str, list[float]], *, allowed: float) -> None:
    """Print one table."""
    print(f"\n{title:28}{'least':>9}{'p25':>9}   µs of CPU a call")
    for name, rounds in times.items():
        ordered = sorted(rounds)
        print(f"{name:28}{ordered[0]:9.2f}{ordered[len(ordered) // 4]:9.2f}")
    whole = sorted(times["all together"])
    asked(f"all guard rails, {title}, p25", whole[len(whole) // 4], most=allowed, unit="µs")


def main() -> None:
    """Measure both and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--sdk", action="store_true", help="only with an SDK")
    options = parser.parse_args()
    end = with_sdk() if options.sdk else None
    with Path(os.devnull).open("w") as nowhere:
        configure_observability(level="INFO", json=True, stream=nowhere)
        times = asyncio.run(measure(options.rounds))
    if end is not None:
        show("with an SDK", times, allowed=100)
        end()
        return
    show("without an SDK", times, allowed=50)
    if find_spec("opentelemetry.sdk"):
        sys.stdout.flush()
        command = [sys.executable, __file__, "--sdk", "--rounds", str(options.rounds)]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
