"""Gemini's own interface, as litellm speaks it, over real HTTP."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import traceback
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
import pytest_asyncio

from motadata.core.cache import create_memory_cache
from motadata.core.errors import (
    ConfigurationError,
    ContextLengthError,
    ProviderError,
    RateLimitError,
    SDKError,
    ValidationError,
)
from motadata.core.models import CompletionChunk, Message, ToolCall, ToolDefinition
from motadata.core.resilience import RetryPolicy
from motadata.core.testing.openai_server import OpenAIServer, Reply
from motadata.gateway import Governance, LLMGateway, create_gateway
from motadata.gateway.routing import Routing


# litellm's own types make pydantic complain when they are first used.
pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore:.*`ReadOnly` qualifier:UserWarning"),
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince211"),
]

KEY = "AIza-very-secret-0123456789abcdef"
MODEL = "gemini/gemini-2.5-flash"
LOOK_UP = ToolDefinition(
    "look_up", "Looks up.", {"type": "object", "properties": {"id": {"type": "integer"}}}
)
COUNTS = {
    "promptTokenCount": 100,
    "cachedContentTokenCount": 40,
    "candidatesTokenCount": 20,
    "thoughtsTokenCount": 30,
    "totalTokenCount": 150,
}


@pytest_asyncio.fixture(loop_scope="module")
async def gateway(openai_server: OpenAIServer) -> AsyncIterator[LLMGateway]:
    async with create_gateway(
        ["gemini"],
        MODEL,
        {"gemini": KEY},
        base_urls={"gemini": openai_server.url},
        cache=create_memory_cache(),
        timeout=20,
    ) as made:
        yield made


async def streamed(gateway: LLMGateway, prompt: str = "hello") -> list[CompletionChunk]:
    chunks = gateway.stream(prompt, tools=[LOOK_UP], tenant_id="acme")
    return [chunk async for chunk in chunks]


def part(*parts: object, reason: str | None = None, **more: object) -> str:
    """Return what Gemini sends: a whole answer, or an event of a stream."""
    candidate: dict[str, object] = {"content": {"role": "model", "parts": parts}, "index": 0}
    if reason is not None:
        candidate["finishReason"] = reason
    return json.dumps({"candidates": [candidate], **more})


def failure(status: int, message: str, *details: object) -> Reply:
    """Return an error in Gemini's words."""
    error = {"code": status, "message": message, "details": details}
    return Reply(status=status, body=json.dumps({"error": error}, indent=2))


async def test_the_model_is_in_the_path_and_the_key_in_a_header_only(
    gateway: LLMGateway, openai_server: OpenAIServer
):
    await gateway.generate_async("hello", tenant_id="acme")
    await streamed(gateway, "hello again")

    whole, stream = openai_server.requests
    assert whole.path == "/v1/models/gemini-2.5-flash:generateContent"
    assert stream.path == "/v1/models/gemini-2.5-flash:streamGenerateContent?alt=sse"
    assert whole.headers["x-goog-api-key"] == stream.headers["x-goog-api-key"] == KEY


async def test_the_request_is_said_in_gemini_s_words(
    gateway: LLMGateway, openai_server: OpenAIServer
):
    messages = [Message("system", "Be brief."), Message("user", "hello")]

    await gateway.generate_async(messages, temperature=0.5, max_tokens=9, tenant_id="acme")

    (request,) = openai_server.requests
    assert request.body == {
        "system_instruction": {"parts": [{"text": "Be brief."}]},
        "contents": [{"role": "user", "parts": [{"text": "hello"}]}],
        "generationConfig": {"temperature": 0.5, "max_output_tokens": 9},
    }


async def test_the_answer_counts_cached_and_thinking_tokens(
    gateway: LLMGateway, openai_server: OpenAIServer
):
    openai_server.reply(Reply(text="Hello.", usage=COUNTS))

    answer = await gateway.generate_async("hello", tenant_id="acme")

    assert (answer.text, answer.model, answer.finish_reason) == ("Hello.", MODEL, "stop")
    assert (answer.usage.input_tokens, answer.usage.cached_input_tokens) == (100, 40)
    assert (answer.usage.output_tokens, answer.usage.reasoning_tokens) == (50, 30)
    assert answer.usage.cost_usd


async def test_a_stream_says_in_pieces_what_the_whole_answer_says(
    gateway: LLMGateway, openai_server: OpenAIServer
):
    openai_server.always(Reply(text="Hello there, you.", usage=COUNTS))

    whole = await gateway.generate_async("hello", tenant_id="acme")
    chunks = await streamed(gateway)

    assert [chunk.text for chunk in chunks] == ["Hello ", "there, ", "you.", ""]
    assert "".join(chunk.text for chunk in chunks) == whole.text
    assert chunks[-1].finish_reason == whole.finish_reason
    assert chunks[-1].usage == whole.usage


async def test_usage_that_grows_with_each_event_is_not_added_up(
    gateway: LLMGateway, openai_server: OpenAIServer
):
    less = {**COUNTS, "candidatesTokenCount": 1, "totalTokenCount": 131}
    first = part({"text": "one "}, usageMetadata=less)
    last = part({"text": "two"}, reason="STOP", usageMetadata=COUNTS)
    openai_server.reply(Reply(events=(first, last)))

    chunks = await streamed(gateway)

    assert chunks[-1].usage is not None
    assert (chunks[-1].usage.input_tokens, chunks[-1].usage.output_tokens) == (100, 50)


async def test_thoughts_are_no_part_of_the_text(gateway: LLMGateway, openai_server: OpenAIServer):
    thought, said = {"text": "Well…", "thought": True}, {"text": "Yes."}
    end = part(reason="STOP", usageMetadata=COUNTS)
    openai_server.reply(
        Reply(body=part(thought, said, reason="STOP", usageMetadata=COUNTS)),
        Reply(events=(part(thought), part(said), end)),
    )

    whole = await gateway.generate_async("hello", tenant_id="acme")
    chunks = await streamed(gateway)

    assert whole.text == "".join(chunk.text for chunk in chunks) == "Yes."


async def test_tool_calls_arrive_whole_and_streamed(
    gateway: LLMGateway, openai_server: OpenAIServer
):
    calls = (ToolCall("a", "look_up", '{"id": 7}'), ToolCall("b", "look_up", '{"id": 8}'))
    openai_server.always(Reply(text="Let me see.", tool_calls=calls))

    whole = await gateway.generate_async("find", tools=[LOOK_UP], tenant_id="acme")
    last = (await streamed(gateway, "find it"))[-1]

    for got in (whole, last):
        assert got.finish_reason == "tool_calls"
        assert [(call.name, call.arguments) for call in got.tool_calls] == [
            ("look_up", '{"id": 7}'),
            ("look_up", '{"id": 8}'),
        ]
        assert len({call.id for call in got.tool_calls}) == 2  # Gemini gives them none


async def test_the_result_of_a_tool_goes_back_with_the_signature_of_the_thought(
    gateway: LLMGateway, openai_server: OpenAIServer
):
    wish = {"functionCall": {"name": "look_up", "args": {"id": 7}}, "thoughtSignature": "c2ln"}
    openai_server.reply(Reply(events=(part(wish, reason="STOP", usageMetadata=COUNTS),)))
    (call,) = (await streamed(gateway, "find"))[-1].tool_calls
    turns = [
        Message("user", "find"),
        Message("assistant", "", tool_calls=(call,)),
        Message("tool", "found", tool_call_id=call.id),
    ]

    await gateway.generate_async(turns, tools=[LOOK_UP], tenant_id="acme")

    sent = json.dumps(openai_server.requests[-1].body["contents"])
    assert '"thoughtSignature": "c2ln"' in sent
    assert '{"name": "look_up", "response": {"content": "found"}}' in sent


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("length", "length"),  # MAX_TOKENS
        ("content_filter", "content_filter"),  # SAFETY
        ("RECITATION", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"),
    ],
)
async def test_each_finish_reason_has_one_of_our_names(
    gateway: LLMGateway, openai_server: OpenAIServer, said: str, reason: str
):
    openai_server.always(Reply(text="abc", finish_reason=said))

    whole = await gateway.generate_async("hello", tenant_id="acme")
    last = (await streamed(gateway, "hello again"))[-1]

    assert whole.finish_reason == last.finish_reason == reason


EMPTY = part(reason="MALFORMED_FUNCTION_CALL", usageMetadata=COUNTS)
BARE = json.dumps(
    {
        "candidates": [
            {
                "finishReason": "MALFORMED_FUNCTION_CALL",
                "finishMessage": "Malformed function call: print(default_api.look_up(",
            }
        ],
        "usageMetadata": COUNTS,
    }
)


@pytest.mark.parametrize(
    "body",
    [
        EMPTY,
        BARE,
        part({"text": "Let me see."}, reason="MALFORMED_FUNCTION_CALL", usageMetadata=COUNTS),
        part(reason="MALFORMED_RESPONSE", usageMetadata=COUNTS),
        part(reason="UNEXPECTED_TOOL_CALL", usageMetadata=COUNTS),
    ],
    ids=["no parts", "no content", "words before", "response", "unexpected"],
)
async def test_an_answer_that_gemini_cannot_read_is_an_error_that_another_try_helps(
    gateway: LLMGateway, openai_server: OpenAIServer, body: str
):
    openai_server.reply(Reply(body=body), Reply(events=(body,)))

    with pytest.raises(ProviderError, match="cannot read") as whole:
        await gateway.generate_async("find", tools=[LOOK_UP], tenant_id="acme")
    with pytest.raises(ProviderError, match="cannot read") as stream:
        await streamed(gateway, "find")

    for raised in (whole, stream):
        assert raised.value.retryable
        assert raised.value.status is None  # so that its unknown cost counts as lost
        assert "default_api" not in "".join(traceback.format_exception(raised.value))
    answer = await gateway.generate_async("find", tools=[LOOK_UP], tenant_id="acme")
    assert (answer.text, answer.cached) == ("You said: find", False)


async def test_a_call_that_gemini_could_not_read_is_tried_again(openai_server: OpenAIServer):
    openai_server.reply(Reply(body=BARE), Reply(text="Found.", usage=COUNTS))
    routing = Routing(retry=RetryPolicy(attempts=2, base=0.01, cap=0.01))
    async with create_gateway(
        ["gemini"],
        MODEL,
        {"gemini": KEY},
        base_urls={"gemini": openai_server.url},
        governance=Governance(routing=routing),
    ) as gateway:
        answer = await gateway.generate_async("find", tools=[LOOK_UP], tenant_id="acme")

    assert answer.text == "Found."


@pytest.mark.parametrize("said", ["TOO_MANY_TOOL_CALLS", "SOME_REASON_OF_TOMORROW"])
async def test_an_answer_that_ended_for_another_reason_is_no_whole_one_to_keep(
    gateway: LLMGateway, openai_server: OpenAIServer, said: str
):
    openai_server.always(Reply(text="half", finish_reason=said))

    whole = await gateway.generate_async("hello", tenant_id="acme")
    last = (await streamed(gateway, "hello again"))[-1]

    assert whole.finish_reason == last.finish_reason == "unknown"
    assert not (await gateway.generate_async("hello", tenant_id="acme")).cached


async def test_an_answer_that_was_thought_away_has_no_text_and_its_usage(
    gateway: LLMGateway, openai_server: OpenAIServer
):
    openai_server.reply(Reply(body=part(reason="MAX_TOKENS", usageMetadata=COUNTS)))

    answer = await gateway.generate_async("hello", tenant_id="acme")

    assert (answer.text, answer.finish_reason) == ("", "length")
    assert answer.usage.output_tokens == 50


async def test_a_prompt_that_is_refused_ends_as_filtered(
    gateway: LLMGateway, openai_server: OpenAIServer
):
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": COUNTS}
    openai_server.reply(Reply(body=json.dumps(blocked)), Reply(events=(json.dumps(blocked),)))

    whole = await gateway.generate_async("hello", tenant_id="acme")
    last = (await streamed(gateway, "hello again"))[-1]

    assert whole.finish_reason == last.finish_reason == "content_filter"


@pytest.mark.parametrize("cut", [0, 2, 3])
async def test_a_stream_that_is_cut_off_is_an_error_and_not_cached(
    gateway: LLMGateway, openai_server: OpenAIServer, cut: int
):
    openai_server.reply(Reply(text="one two three", cut=cut))

    with pytest.raises(ProviderError) as raised:
        await streamed(gateway)

    assert raised.value.retryable
    assert not (await gateway.generate_async("hello", tools=[LOOK_UP], tenant_id="acme")).cached


@pytest.mark.parametrize("events", [(part({"text": "half"}),), (part({"text": "half"}), "{junk")])
async def test_a_stream_that_ends_without_a_reason_is_an_error_and_not_cached(
    gateway: LLMGateway, openai_server: OpenAIServer, events: tuple[str, ...]
):
    openai_server.reply(Reply(events=events))

    with pytest.raises(ProviderError, match="ended before the answer did") as raised:
        await streamed(gateway)

    assert raised.value.retryable
    assert not (await gateway.generate_async("hello", tools=[LOOK_UP], tenant_id="acme")).cached


async def test_a_stream_that_came_whole_is_cached(gateway: LLMGateway, openai_server: OpenAIServer):
    await streamed(gateway)

    answer = await gateway.generate_async("hello", tools=[LOOK_UP], tenant_id="acme")

    assert answer.cached
    assert len(openai_server.requests) == 1


async def test_an_answer_that_is_cut_off_is_an_error(
    gateway: LLMGateway, openai_server: OpenAIServer
):
    openai_server.reply(Reply(text="whole", cut=20))

    with pytest.raises(ProviderError) as raised:
        await gateway.generate_async("hello", tenant_id="acme")

    assert raised.value.retryable


@pytest.mark.parametrize("body", ["<html>proxy login</html>", "null", "{}"])
async def test_an_answer_that_is_none_is_not_blamed_on_the_request(
    gateway: LLMGateway, openai_server: OpenAIServer, body: str
):
    openai_server.reply(Reply(body=body))

    with pytest.raises(ProviderError, match="has not the shape of one") as raised:
        await gateway.generate_async("hello", tenant_id="acme")

    assert not raised.value.retryable


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(status=400), ValidationError),
        (Reply(status=401), ConfigurationError),
        (Reply(status=403), ConfigurationError),
        (Reply(status=404), ConfigurationError),
        (Reply(status=429), RateLimitError),
        (Reply(status=500), ProviderError),
        (Reply(status=503), ProviderError),
        (failure(400, "API key not valid. Please pass a valid API key."), ConfigurationError),
        (failure(400, "The input token count (9) exceeds the maximum."), ContextLengthError),
    ],
    ids=["400", "401", "403", "404", "429", "500", "503", "bad key", "too long"],
)
async def test_each_failure_is_one_of_our_errors_and_tried_once(
    gateway: LLMGateway, openai_server: OpenAIServer, reply: Reply, kind: type[SDKError]
):
    openai_server.always(reply)

    with pytest.raises(SDKError) as whole:
        await gateway.generate_async("hello", tenant_id="acme")
    with pytest.raises(SDKError) as stream:
        await streamed(gateway, "hello again")

    assert type(whole.value) is type(stream.value) is kind
    assert whole.value.tenant_id == stream.value.tenant_id == "acme"
    assert whole.value.retryable == stream.value.retryable == (reply.status in (429, 500, 503))
    assert len(openai_server.requests) == 2


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("told", ["in a header", "in the body"])
async def test_how_long_to_wait_is_told(
    gateway: LLMGateway, openai_server: OpenAIServer, told: str, status: int
):
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7.5s"}
    header = Reply(status=status, headers={"Retry-After": "7.5"})
    openai_server.always(header if told == "in a header" else failure(status, "Wait.", info))

    with pytest.raises((RateLimitError, ProviderError)) as whole:
        await gateway.generate_async("hello", tenant_id="acme")
    with pytest.raises((RateLimitError, ProviderError)) as stream:
        await streamed(gateway, "hello again")

    assert whole.value.retry_after == stream.value.retry_after == 7.5


@pytest.mark.parametrize(("status", "kind"), [(429, RateLimitError), (503, ProviderError)])
async def test_an_error_within_a_stream_is_the_error_it_says(
    gateway: LLMGateway, openai_server: OpenAIServer, status: int, kind: type[SDKError]
):
    error = json.dumps({"error": {"code": status, "message": "Busy.", "status": "UNAVAILABLE"}})
    openai_server.reply(Reply(events=(part({"text": "half"}), error)))

    with pytest.raises(kind) as raised:
        await streamed(gateway)

    assert raised.value.retryable


async def test_closing_a_stream_closes_the_connection(
    gateway: LLMGateway, openai_server: OpenAIServer
):
    openai_server.reply(Reply(chunks=("one ", "two "), hang=True))

    async with aclosing(gateway.stream("hello", tenant_id="acme")) as chunks:  # type: ignore[type-var]
        assert (await anext(chunks)).text == "one "

    gone = await asyncio.to_thread(openai_server.wait_for_disconnect)
    assert "streamGenerateContent" in gone.path


async def test_litellm_is_left_as_it_is(gateway: LLMGateway):
    await gateway.generate_async("hello", tenant_id="acme")
    await streamed(gateway, "hello again")
    import litellm

    assert "litellm.llms.vertex_ai.context_caching.vertex_ai_context_caching" in sys.modules
    assert litellm.cache is None
    assert litellm.callbacks == litellm.input_callback == []
    assert litellm.success_callback == litellm._async_success_callback == []


BEFORE = {
    "nothing": "",
    "a callback of its own": "litellm.success_callback.append('cache')",
    "litellm's cache": "litellm.cache = litellm.Cache()",
    "its settings": "litellm.suppress_debug_info = True",
}
LOADING = """
import asyncio, json, os, sys
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm
from motadata.gateway._litellm_module import loaded
exec(sys.argv[1])
lists = (litellm.input_callback, litellm.success_callback, litellm._async_success_callback)
before = [list(callbacks) for callbacks in lists]
asyncio.run(loaded())
import litellm.llms.vertex_ai.context_caching.vertex_ai_context_caching
print(json.dumps([before, lists]))
"""


@pytest.mark.parametrize("what", BEFORE)
async def test_what_the_platform_registered_with_litellm_stays_and_nothing_else_comes(what: str):
    fresh = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore", "-c", LOADING, BEFORE[what]),
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        said, _ = await fresh.communicate()

    before, after = json.loads(said.splitlines()[-1])
    assert before == after


async def test_the_server_answers_a_model_by_its_script(
    gateway: LLMGateway, openai_server: OpenAIServer
):
    openai_server.always(Reply(text="I am Pro."), model="gemini-2.5-pro")

    pro = await gateway.generate_async("hello", model="gemini/gemini-2.5-pro", tenant_id="acme")
    flash = await gateway.generate_async("hello", tenant_id="acme")

    assert (pro.text, flash.text) == ("I am Pro.", "You said: hello")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
async def test_no_error_says_the_key_even_when_the_provider_does(
    gateway: LLMGateway, openai_server: OpenAIServer, status: int
):
    openai_server.always(failure(status, f"bad key {KEY} at https://host/v1?key={KEY}"))

    with pytest.raises(SDKError) as whole:
        await gateway.generate_async("hello", tenant_id="acme")
    with pytest.raises(SDKError) as stream:
        await streamed(gateway, "hello again")

    assert KEY not in f"{whole.value} {whole.value!r} {stream.value} {stream.value!r}"


async def test_the_chain_of_causes_holds_no_key(gateway: LLMGateway, openai_server: OpenAIServer):
    openai_server.reply(Reply(status=401), Reply(status=503))

    with pytest.raises(SDKError) as whole:
        await gateway.generate_async("hello", tenant_id="acme")
    with pytest.raises(SDKError) as stream:
        await streamed(gateway, "hello again")

    for raised in (whole, stream):
        assert KEY not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize("logger", [None, "LiteLLM"], ids=["as it is", "litellm talkative"])
async def test_no_log_holds_the_key(
    gateway: LLMGateway,
    openai_server: OpenAIServer,
    caplog: pytest.LogCaptureFixture,
    logger: str | None,
):
    await gateway.generate_async("so that litellm is loaded", tenant_id="acme")
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger=logger)
    openai_server.reply(Reply(), Reply(), Reply(status=401), Reply(text="one two", cut=1))

    await gateway.generate_async("hello", tenant_id="acme")
    await streamed(gateway, "hello again")
    with pytest.raises(SDKError):
        await gateway.generate_async("refused", tenant_id="acme")
    with pytest.raises(SDKError):
        await streamed(gateway, "cut off")

    assert KEY not in caplog.text
    assert logger is None or "generateContent" in caplog.text.replace("streamG", "g")
