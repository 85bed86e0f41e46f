"""Calls through litellm cost what the golden set says, to the last digit, over real HTTP."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from motadata.core.models import Usage
from motadata.core.testing.openai_server import OpenAIServer, Reply
from motadata.gateway import Governance, LLMGateway, create_gateway
from motadata.gateway.usage import PriceTable, Pricing


# litellm's own types make pydantic complain when they are first used.
pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore:.*`ReadOnly` qualifier:UserWarning"),
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince211"),
]

Case = dict[str, Any]

KEY = "very-secret-0123456789abcdef"
GOLDEN = json.loads((Path(__file__).parent / "data" / "usage_golden.json").read_text())
# By its full name, litellm knows that a model is spoken to by Converse.
FULL_NAMES = {
    "bedrock/anthropic.claude-sonnet-4-5": "bedrock/anthropic.claude-sonnet-4-5-20250929-v1:0",
    "bedrock/amazon.nova-pro": "bedrock/amazon.nova-pro-v1:0",
}
PRICES = GOLDEN["prices"]
TABLE = PriceTable(
    PRICES | {full: PRICES[name] for name, full in FULL_NAMES.items()}, version="golden"
)


def name_of(case: Case) -> str:
    return str(case["name"])


def gemini() -> list[Case]:
    """Return the cases that an answer can be made of, and not only a part of one."""
    cases = [case for case in GOLDEN["cases"] if case["shape"] == "gemini"]
    return [case for case in cases if "usageMetadata" in case["events"][-1]]


def converse() -> list[Case]:
    """Return the usage of each case that Bedrock's Converse tells."""
    cases = [case for case in GOLDEN["cases"] if case["shape"] == "bedrock"]
    return [case for case in cases if counts_of(case)]


def counts_of(case: Case) -> dict[str, Any]:
    last = case["events"][-1]
    used: dict[str, Any] = last.get("metadata", last).get("usage", {})
    return used if "inputTokens" in used else {}


@pytest_asyncio.fixture(loop_scope="module")
async def gateway(openai_server: OpenAIServer) -> AsyncIterator[LLMGateway]:
    async with create_gateway(
        ["gemini", "bedrock"],
        "gemini/gemini-2.5-pro",
        {"gemini": KEY, "bedrock": KEY},
        base_urls={"gemini": openai_server.url, "bedrock": openai_server.url},
        governance=Governance(prices=Pricing(TABLE)),
        timeout=20,
    ) as made:
        yield made


async def whole(gateway: LLMGateway, case: Case) -> Usage:
    model = FULL_NAMES.get(case["model"], case["model"])
    return (await gateway.generate_async("hello", model=model, tenant_id="acme")).usage


async def streamed(gateway: LLMGateway, case: Case) -> Usage:
    model = FULL_NAMES.get(case["model"], case["model"])
    chunks = [chunk async for chunk in gateway.stream("hello", model=model, tenant_id="acme")]
    assert chunks[-1].usage is not None
    return chunks[-1].usage


def check(used: Usage, case: Case) -> None:
    told = asdict(used)
    cost = told.pop("cost_usd")
    assert told == case["usage"]
    assert abs(cost - Decimal(case["cost"])) < Decimal("1e-9")
    assert cost == Decimal(case["cost"])


def ended(events: Sequence[Case]) -> tuple[str, ...]:
    """Return the events of a stream of Gemini's, the last of which says that it is the last."""
    parts: list[Case] = json.loads(json.dumps(events))
    for candidate in parts[-1].get("candidates", ()):
        candidate["finishReason"] = "STOP"
    return tuple(json.dumps(part) for part in parts)


@pytest.mark.parametrize(
    "case", [case for case in gemini() if len(case["events"]) == 1], ids=name_of
)
async def test_gemini_s_answer_costs_what_it_says(
    gateway: LLMGateway, openai_server: OpenAIServer, case: Case
):
    openai_server.reply(Reply(body=json.dumps(case["events"][0])))

    check(await whole(gateway, case), case)


@pytest.mark.parametrize("case", gemini(), ids=name_of)
async def test_gemini_s_stream_costs_what_it_says(
    gateway: LLMGateway, openai_server: OpenAIServer, case: Case
):
    openai_server.reply(Reply(events=ended(case["events"])))

    check(await streamed(gateway, case), case)


GROUNDED = next(case for case in gemini() if "what was found" in case["name"])


async def test_searches_count_that_another_part_of_a_stream_tells_than_the_counts(
    gateway: LLMGateway, openai_server: OpenAIServer
):
    [event] = GROUNDED["events"]
    searching = {"candidates": event["candidates"]}
    counting = {"candidates": [{"finishReason": "STOP"}], "usageMetadata": event["usageMetadata"]}
    openai_server.reply(
        Reply(events=ended([searching, counting])), Reply(events=ended([counting, searching]))
    )

    check(await streamed(gateway, GROUNDED), GROUNDED)
    check(await streamed(gateway, GROUNDED), GROUNDED)


FILTERED = {
    "name": "filtered, after a search and thoughts",
    "model": "gemini/gemini-2.5-pro",
    "usage": asdict(Usage(5000, 270, None, 4096, 0, 250, 1)),
    "cost": "0.039342",  # (904 x 1.25 + 4096 x 0.125 + 20 x 10 + 250 x 10) / 1000000 + 0.035
}
FILTERED["usage"].pop("cost_usd")  # type: ignore[attr-defined]  # a dictionary
FILTERED_EVENT = {
    "candidates": [
        {"finishReason": "SAFETY", "groundingMetadata": {"webSearchQueries": ["a", "b"]}}
    ],
    "usageMetadata": {
        "promptTokenCount": 5000,
        "cachedContentTokenCount": 4096,
        "candidatesTokenCount": 20,
        "thoughtsTokenCount": 250,
        "totalTokenCount": 5270,
    },
}


async def test_answer_that_is_filtered_costs_its_thoughts_and_searches(
    gateway: LLMGateway, openai_server: OpenAIServer
):
    """litellm keeps two counts of such an answer."""
    body = json.dumps(FILTERED_EVENT)
    openai_server.reply(Reply(body=body), Reply(events=(body,)))

    check(await whole(gateway, FILTERED), FILTERED)
    check(await streamed(gateway, FILTERED), FILTERED)


MESSAGE = {"role": "assistant", "content": [{"text": "hello"}]}


@pytest.mark.parametrize("case", converse(), ids=name_of)
async def test_bedrock_s_answer_costs_what_it_says(
    gateway: LLMGateway, openai_server: OpenAIServer, case: Case
):
    used = {"usage": counts_of(case), "metrics": {"latencyMs": 1}}
    body = {"output": {"message": MESSAGE}, "stopReason": "end_turn", **used}
    openai_server.reply(Reply(body=json.dumps(body)))

    check(await whole(gateway, case), case)
    assert openai_server.requests[-1].path.endswith("/converse")


@pytest.mark.parametrize("case", converse(), ids=name_of)
async def test_bedrock_s_stream_costs_what_it_says(
    gateway: LLMGateway, openai_server: OpenAIServer, case: Case
):
    openai_server.reply(
        Reply(
            raw=(
                framed("messageStart", {"role": "assistant"}),
                framed("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "hello"}}),
                framed("contentBlockStop", {"contentBlockIndex": 0}),
                framed("messageStop", {"stopReason": "end_turn"}),
                framed("metadata", {"usage": counts_of(case), "metrics": {"latencyMs": 1}}),
            ),
            headers={"Content-Type": "application/vnd.amazon.eventstream"},
        )
    )

    check(await streamed(gateway, case), case)
    assert openai_server.requests[-1].path.endswith("/converse-stream")


def framed(kind: str, payload: Case) -> bytes:
    """Return an event of a stream in AWS's binary framing."""
    named = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    headers = b"".join(
        struct.pack(">B", len(name))
        + name.encode()
        + struct.pack(">BH", 7, len(value))
        + value.encode()
        for name, value in named.items()
    )
    data = json.dumps(payload).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(data), len(headers))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + data
    return message + struct.pack(">I", zlib.crc32(message))
