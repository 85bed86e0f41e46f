"""What the gateway tells of its calls: the trace to the provider, the figures to the metrics."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator

import pytest

from motadata.core.cache import create_memory_cache
from motadata.core.errors import SDKError
from motadata.core.observability import span
from motadata.core.testing.openai_server import OpenAIServer, Reply
from motadata.gateway import LLMGateway, create_gateway


pytest.importorskip("opentelemetry.sdk")

from motadata.core.testing.metrics import RecordedMetrics, recorded_metrics


# litellm's own types make pydantic complain when they are first used.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*`ReadOnly` qualifier:UserWarning"),
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince211"),
]

DURATION = "gen_ai.client.operation.duration"
TOKENS = "gen_ai.client.token.usage"
TENANT = "motadata.tenant_id"
MODEL = "openai/gpt-4o-mini"


@pytest.fixture
async def gateway(openai_server: OpenAIServer) -> AsyncIterator[LLMGateway]:
    async with create_gateway(
        ["openai"],
        MODEL,
        {"openai": "sk-very-secret-0123456789abcdef"},
        default_embedding_model="openai/text-embedding-3-small",
        base_urls={"openai": openai_server.url},
        cache=create_memory_cache(),
        timeout=60,
    ) as made:
        yield made


@pytest.fixture
def recorded() -> Iterator[RecordedMetrics]:
    with recorded_metrics() as metrics:
        yield metrics


async def test_trace_goes_to_the_provider_with_every_kind_of_call(
    gateway: LLMGateway, openai_server: OpenAIServer
) -> None:
    with span("caller") as caller:
        await gateway.generate_async("one", tenant_id="acme")
        async for _ in gateway.stream("two", tenant_id="acme"):
            pass
        await gateway.embed(["three"], tenant_id="acme")

    parents = [request.headers["traceparent"].split("-") for request in openai_server.requests]
    assert [parent[1] for parent in parents] == [caller.trace_id] * 3


async def test_calls_are_measured_per_tenant_and_hits_of_the_cache_are_no_calls(
    gateway: LLMGateway, recorded: RecordedMetrics
) -> None:
    for tenant, prompt in (("acme", "one"), ("acme", "one"), ("globex", "one")):
        await gateway.generate_async(prompt, tenant_id=tenant)

    points = recorded.points(DURATION)
    assert {point.attributes[TENANT]: point.count for point in points} == {"acme": 1, "globex": 1}
    lookups = {
        (point.attributes[TENANT], point.attributes["motadata.cache.result"]): point.value
        for point in recorded.points("motadata.cache.lookups")
        if point.attributes["motadata.cache.tier"] == "responses"
    }
    assert lookups == {("acme", "miss"): 1, ("acme", "hit"): 1, ("globex", "miss"): 1}
    assert points[0].attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": MODEL,
        TENANT: points[0].attributes[TENANT],
    }
    assert {point.attributes["gen_ai.token.type"] for point in recorded.points(TOKENS)} == {
        "input",
        "output",
    }
    assert all(point.value > 0 for point in recorded.points("motadata.gen_ai.cost_usd"))


async def test_call_that_fails_is_measured_with_its_code_and_without_its_text(
    gateway: LLMGateway, openai_server: OpenAIServer, recorded: RecordedMetrics
) -> None:
    openai_server.always(Reply(status=500))
    with pytest.raises(SDKError) as caught, span("caller") as caller:
        await gateway.generate_async("the code word xylophone", tenant_id="acme")

    (point,) = recorded.points(DURATION)
    assert point.attributes["error.type"] == caught.value.code
    assert caught.value.trace_id == caller.trace_id
    shown = json.dumps(
        [dict(point.attributes) for name in recorded.names for point in recorded.points(name)]
    )
    assert "xylophone" not in shown
