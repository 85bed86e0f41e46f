"""The native lane and litellm read the same answers alike; where litellm errs, it is said why."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from pydantic import SecretStr

from motadata.core.models import Completion, Message, ToolCall, ToolDefinition, Usage
from motadata.core.testing.openai_server import OpenAIServer, Reply
from motadata.gateway import (
    AnthropicProvider,
    ChatOptions,
    ChatRequest,
    LiteLLMProvider,
    OpenAIProvider,
    Provider,
)


# litellm's own types make pydantic complain when they are first used.
pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore:.*`ReadOnly` qualifier:UserWarning"),
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince211"),
]

Way = Callable[[Provider, ChatRequest], Awaitable[Completion]]

KEY = SecretStr("sk-test")
LOOK_UP = ToolDefinition(
    "look_up", "Looks up.", {"type": "object", "properties": {"id": {"type": "integer"}}}
)
CALLS = (ToolCall("c1", "look_up", '{"id": 7}'), ToolCall("c2", "look_up", '{"id": 8}'))
USAGE = {"prompt_tokens": 100, "completion_tokens": 40, "total_tokens": 140}
CACHED = {**USAGE, "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 0}}
REASONED = {**USAGE, "completion_tokens_details": {"reasoning_tokens": 24}}
CLAUDE = {"input_tokens": 100, "output_tokens": 40}
CLAUDE_CACHED = {**CLAUDE, "cache_read_input_tokens": 64, "cache_creation_input_tokens": 16}
CLAUDE_LONG = {
    **CLAUDE_CACHED,
    "cache_creation": {"ephemeral_5m_input_tokens": 6, "ephemeral_1h_input_tokens": 10},
}
SEARCHED = {**CLAUDE, "server_tool_use": {"web_search_requests": 2}}

OPENAI = {
    "words": Reply(text="Héllo 🙂 there", usage=USAGE),
    "no words": Reply(chunks=("",), usage=USAGE),
    "cut off": Reply(text="half", finish_reason="length", usage=USAGE),
    "filtered": Reply(text="", chunks=(" ",), finish_reason="content_filter", usage=USAGE),
    "one tool": Reply(tool_calls=CALLS[:1], usage=USAGE),
    "two tools": Reply(tool_calls=CALLS, usage=USAGE),
    "words and tools": Reply(text="Let me see.", tool_calls=CALLS, usage=USAGE),
    "cached": Reply(text="x", usage=CACHED),
    "reasoned": Reply(text="x", usage=REASONED),
    "nothing used": Reply(text="x", usage={**USAGE, "completion_tokens": 0}),
}
ANTHROPIC = {
    "words": Reply(text="Héllo 🙂 there", usage=CLAUDE),
    "cut off": Reply(text="half", finish_reason="length", usage=CLAUDE),
    "one tool": Reply(tool_calls=CALLS[:1], usage=CLAUDE),
    "two tools": Reply(tool_calls=CALLS, usage=CLAUDE),
    "words and tools": Reply(text="Let me see.", tool_calls=CALLS, usage=CLAUDE),
    "cached": Reply(text="x", usage=CLAUDE_CACHED),
    "cached for an hour": Reply(text="x", usage=CLAUDE_LONG),
    "searched": Reply(text="x", usage=SEARCHED),
    "stopped": Reply(text="x", finish_reason="stop_sequence", usage=CLAUDE),
    "refused": Reply(text="no", finish_reason="refusal", usage=CLAUDE),
}


def plain(answer: Completion) -> Completion:
    """Return what both lanes must agree on: the price is litellm's own, JSON may be spaced."""
    calls = tuple(
        replace(call, arguments=json.dumps(json.loads(call.arguments or "{}")))
        for call in answer.tool_calls
    )
    usage = replace(answer.usage, cost_usd=None)
    return replace(answer, tool_calls=calls, usage=usage)


async def whole(provider: Provider, request: ChatRequest) -> Completion:
    return plain(await provider.complete(request))


async def streamed(provider: Provider, request: ChatRequest) -> Completion:
    chunks = [chunk async for chunk in provider.stream(request)]
    last = chunks[-1]
    text = "".join(chunk.text for chunk in chunks)
    assert last.finish_reason is not None
    return plain(
        Completion(text, request.model, last.finish_reason, last.tool_calls, last.usage or Usage())
    )


def asking(model: str, **options: object) -> ChatRequest:
    return ChatRequest(model, (Message("user", "find"),), tools=(LOOK_UP,), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("way", [whole, streamed])
@pytest.mark.parametrize("case", OPENAI)
async def test_openai_s_answers_are_read_alike(openai_server: OpenAIServer, case: str, way: Way):
    openai_server.always(OPENAI[case])
    native = OpenAIProvider(api_key=KEY, base_url=openai_server.url)
    peer = LiteLLMProvider("openai", api_key=KEY, base_url=openai_server.url)

    ours = await way(native, asking("openai/gpt-4o-mini"))
    theirs = await way(peer, asking("openai/gpt-4o-mini"))
    await native.aclose()

    assert ours == theirs


@pytest.mark.parametrize("way", [whole, streamed])
@pytest.mark.parametrize("case", ANTHROPIC)
async def test_anthropic_s_answers_are_read_alike(openai_server: OpenAIServer, case: str, way: Way):
    openai_server.always(ANTHROPIC[case])
    native = AnthropicProvider(api_key=KEY, base_url=openai_server.url)
    address = openai_server.url.removesuffix("/v1")
    peer = LiteLLMProvider("anthropic", api_key=KEY, base_url=address)

    ours = await way(native, asking("anthropic/claude-haiku-4-5"))
    theirs = await way(peer, asking("anthropic/claude-haiku-4-5"))
    await native.aclose()

    assert ours == theirs


async def test_both_send_the_same_to_openai(openai_server: OpenAIServer):
    options = ChatOptions(tool_choice="look_up", top_p=0.5, stop=("END",), seed=3)
    request = asking("openai/gpt-4o-mini", temperature=0.5, max_tokens=9, options=options)
    native = OpenAIProvider(api_key=KEY, base_url=openai_server.url)
    peer = LiteLLMProvider("openai", api_key=KEY, base_url=openai_server.url)

    for provider in (native, peer):
        await provider.complete(request)
    await native.aclose()

    ours, theirs = (sent.body for sent in openai_server.requests)
    assert ours == theirs


REFUSAL = {"role": "assistant", "content": None, "refusal": "I can not."}
PAUSED = {
    "type": "message",
    "model": "x",
    "content": [],
    "usage": CLAUDE,
    "stop_reason": "pause_turn",
}


async def test_where_litellm_is_not_followed(openai_server: OpenAIServer):
    """A refusal is no answer of nothing that ended well, and a pause is no end."""
    openai = OpenAIProvider(api_key=KEY, base_url=openai_server.url)
    anthropic = AnthropicProvider(api_key=KEY, base_url=openai_server.url)
    lite = LiteLLMProvider("anthropic", api_key=KEY, base_url=openai_server.url.removesuffix("/v1"))
    body = {"choices": [{"index": 0, "message": REFUSAL, "finish_reason": "stop"}]}
    openai_server.reply(Reply(body=json.dumps(body)), model="gpt")
    openai_server.always(Reply(body=json.dumps(PAUSED)), model="claude")

    refused = await openai.complete(asking("openai/gpt"))
    paused = await anthropic.complete(asking("anthropic/claude"))
    theirs = await lite.complete(asking("anthropic/claude"))
    await openai.aclose()
    await anthropic.aclose()

    assert (refused.text, refused.finish_reason) == ("I can not.", "content_filter")
    assert (paused.finish_reason, theirs.finish_reason) == ("unknown", "stop")
