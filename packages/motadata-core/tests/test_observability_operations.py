from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from decimal import Decimal

import pytest

from motadata.core.errors import InvalidIdentifierError, QueryError
from motadata.core.models import Usage
from motadata.core.observability import (
    _tracing,
    count_lookups,
    current_trace_id,
    database_call,
    message_call,
    message_calls,
    model_call,
    record_request,
)
from motadata.core.observability._metrics import instruments
from motadata.core.observability._tenant_labels import OTHER
from motadata.core.tenancy import tenant_scope


pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from motadata.core.testing.metrics import MetricPoint, RecordedMetrics, recorded_metrics


TENANT = "motadata.tenant_id"


@pytest.fixture
def recorded() -> Iterator[RecordedMetrics]:
    with recorded_metrics() as metrics:
        yield metrics


@pytest.fixture
def finished(monkeypatch: pytest.MonkeyPatch) -> Callable[[], ReadableSpan]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(_tracing, "_tracer", provider.get_tracer("tests"))

    def only() -> ReadableSpan:
        (recorded,) = exporter.get_finished_spans()
        return recorded

    return only


def only(metrics: RecordedMetrics, name: str) -> MetricPoint:
    (point,) = metrics.points(name)
    return point


class TestModelCall:
    def test_is_a_span_after_the_conventions(self, finished: Callable[[], ReadableSpan]) -> None:
        with model_call("chat", model="gpt-4o", provider="openai", tenant_id="acme") as call:
            call.used(Usage(12, 5, Decimal("0.002")), finish_reason="stop")

        recorded = finished()
        assert (recorded.name, recorded.kind.name) == ("chat gpt-4o", "CLIENT")
        assert dict(recorded.attributes or {}) == {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.usage.input_tokens": 12,
            "gen_ai.usage.output_tokens": 5,
            "gen_ai.response.finish_reasons": "stop",
            "motadata.gen_ai.cost_usd": 0.002,
            TENANT: "acme",
        }

    def test_measures_time_tokens_and_cost(self, recorded: RecordedMetrics) -> None:
        with model_call("chat", model="gpt-4o", provider="openai", tenant_id="acme") as call:
            call.used(Usage(12, 5, Decimal("0.002")))

        described = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4o",
            TENANT: "acme",
        }
        duration = only(recorded, "gen_ai.client.operation.duration")
        tokens = {
            point.attributes["gen_ai.token.type"]: point.value
            for point in recorded.points("gen_ai.client.token.usage")
        }
        assert (duration.attributes, duration.count) == (described, 1)
        assert duration.boundaries[:3] == (0.01, 0.02, 0.04)
        assert tokens == {"input": 12, "output": 5}
        assert only(recorded, "motadata.gen_ai.cost_usd").value == pytest.approx(0.002)

    def test_without_a_price_has_no_cost(self, recorded: RecordedMetrics) -> None:
        with model_call("embeddings", model="m", provider="p", tenant_id="acme") as call:
            call.used(Usage(3))

        assert "motadata.gen_ai.cost_usd" not in recorded.names

    def test_that_is_not_current_leaves_the_context_alone(self) -> None:
        with model_call("chat", model="m", provider="p", tenant_id="acme", current=False) as call:
            assert current_trace_id() is None
        assert len(call.trace_id) == 32


class TestDatabaseCall:
    def test_that_fails_carries_the_code_of_the_error(self, recorded: RecordedMetrics) -> None:
        with pytest.raises(QueryError), tenant_scope("acme"):
            _fail()

        assert only(recorded, "db.client.operation.duration").attributes == {
            "db.system.name": "postgresql",
            "db.operation.name": "SELECT",
            "db.collection.name": "rag_chunks",
            "error.type": "database_query_error",
            TENANT: "acme",
        }

    async def test_that_is_cancelled_says_so(self, recorded: RecordedMetrics) -> None:
        async def work() -> None:
            with database_call("SELECT", tenant_id="acme"):
                await asyncio.Event().wait()

        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

        point = only(recorded, "db.client.operation.duration")
        assert point.attributes["error.type"] == "cancelled"

    def test_of_no_valid_tenant_fails_before_it_starts(self) -> None:
        with pytest.raises(InvalidIdentifierError):
            database_call("SELECT", tenant_id="a b")


def _fail() -> None:
    with database_call("SELECT", collection="rag_chunks"):
        raise QueryError("It failed.")


@pytest.mark.parametrize(
    ("operation", "metric", "kind"),
    [
        ("publish", "messaging.client.operation.duration", "PRODUCER"),
        ("request", "messaging.client.operation.duration", "PRODUCER"),
        ("receive", "messaging.client.operation.duration", "CONSUMER"),
        ("process", "messaging.process.duration", "CONSUMER"),
    ],
)
def test_message_call_measures_the_client_and_the_handler_apart(
    operation: str,
    metric: str,
    kind: str,
    recorded: RecordedMetrics,
    finished: Callable[[], ReadableSpan],
) -> None:
    with message_call(operation, destination="sdk.events.<type>", tenant_id="acme"):  # type: ignore[arg-type]  # one of the literals
        pass

    assert finished().name == f"{operation} sdk.events.<type>"
    assert finished().kind.name == kind
    assert only(recorded, metric).attributes == {
        "messaging.system": "nats",
        "messaging.operation.name": operation,
        "messaging.destination.template": "sdk.events.<type>",
        TENANT: "acme",
    }


def test_message_call_continues_the_caller_s_trace(finished: Callable[[], ReadableSpan]) -> None:
    calls = message_calls("process", destination="agent")
    with calls.call(tenant_id="acme", traceparent=f"00-{'a' * 32}-{'b' * 16}-01") as call:
        assert call.trace_id == current_trace_id() == "a" * 32

    parent = finished().parent
    assert parent is not None
    assert (parent.span_id, parent.is_remote) == (int("b" * 16, 16), True)
    assert current_trace_id() is None


def test_message_call_that_is_not_current_is_the_same_span(
    finished: Callable[[], ReadableSpan],
) -> None:
    with message_call("publish", destination="agent", tenant_id="acme", current=False) as call:
        call.set_attribute("chunks", 5)
        assert current_trace_id() is None

    assert finished().name == "publish agent"
    assert dict(finished().attributes or {}) == {
        "messaging.system": "nats",
        "messaging.operation.name": "publish",
        "messaging.destination.template": "agent",
        "chunks": 5,
        TENANT: "acme",
    }


class TestMessageCallWithoutAnSdk:
    def test_gives_its_trace_to_an_error_and_to_what_it_sends(self) -> None:
        call = message_call("request", destination="agent", tenant_id="acme", current=False)
        with pytest.raises(QueryError) as caught, call:
            raise QueryError("It failed.")

        parent, state = call.trace_headers
        assert parent[3:35] == call.trace_id == caught.value.trace_id
        assert (caught.value.tenant_id, state) == ("acme", "")

    def test_passes_on_the_span_around_it(self) -> None:
        with (
            message_call("process", destination="agent", tenant_id="acme") as outer,
            message_call("publish", destination="agent", tenant_id="acme", current=False) as inner,
        ):
            assert inner.trace_headers == outer.trace_headers
            assert outer.trace_id == current_trace_id()
        assert current_trace_id() is None

    def test_that_fails_is_measured_by_the_code_of_the_error(
        self, recorded: RecordedMetrics
    ) -> None:
        with pytest.raises(QueryError), message_call("publish", destination="x", tenant_id="acme"):
            raise QueryError("It failed.")

        point = only(recorded, "messaging.client.operation.duration")
        assert point.attributes["error.type"] == "database_query_error"

    def test_outside_of_every_tenant_takes_the_one_of_the_scope(
        self, recorded: RecordedMetrics
    ) -> None:
        for tenant in ("acme", "globex"):
            with tenant_scope(tenant), message_call("publish", destination="x"):
                pass

        points = recorded.points("messaging.client.operation.duration")
        assert {point.attributes[TENANT]: point.count for point in points} == {
            "acme": 1,
            "globex": 1,
        }

    def test_series_is_asked_for_again_when_tenants_are_named_otherwise(
        self, recorded: RecordedMetrics
    ) -> None:
        limit, named = instruments._named
        try:
            for names in (["acme"], ["globex"], ["acme"]):
                instruments.name_tenants(1, names)
                for tenant in ("acme", "globex", "acme"):
                    with message_call("publish", destination="x", tenant_id=tenant):
                        pass
        finally:
            instruments.name_tenants(limit, named)

        points = recorded.points("messaging.client.operation.duration")
        assert {point.attributes[TENANT]: point.count for point in points} == {
            "acme": 4,
            "globex": 1,
            OTHER: 4,
        }


def test_lookups_are_counted_by_result_and_tier(recorded: RecordedMetrics) -> None:
    count_lookups(hits=3, misses=1, tier="redis", tenant_id="acme")
    count_lookups(hits=1, tier="redis", tenant_id="acme")
    count_lookups(tenant_id="acme")

    points = recorded.points("motadata.cache.lookups")
    assert {point.attributes["motadata.cache.result"]: point.value for point in points} == {
        "hit": 4,
        "miss": 1,
    }
    assert {point.attributes["motadata.cache.tier"] for point in points} == {"redis"}


def test_request_of_a_made_up_method_makes_no_series_of_its_own(recorded: RecordedMetrics) -> None:
    for method in ("GET", "BREW", "X-1", "X-2"):
        record_request(method=method, route="/healthz", status=200, seconds=0.01)

    points = recorded.points("http.server.request.duration")
    assert {point.attributes["http.request.method"]: point.count for point in points} == {
        "GET": 1,
        "_OTHER": 3,
    }
