"""The native lane against a server that answers by script: requests, streams, failures, keys."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import ssl
import sys
import traceback
import warnings
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from motadata.core.errors import (
    ConfigurationError,
    ContentPolicyError,
    ContextLengthError,
    GatewayError,
    ProviderError,
    RateLimitError,
    SDKError,
    ValidationError,
)
from motadata.core.models import CompletionChunk, Message, ToolCall, ToolDefinition
from motadata.core.tenancy import TenantId, tenant_scope
from motadata.core.testing.openai_server import OpenAIServer, Reply
from motadata.gateway import (
    ALIVE,
    AnthropicProvider,
    ChatOptions,
    ChatRequest,
    EmbeddingRequest,
    HttpLimits,
    OpenAIProvider,
    Provider,
    create_gateway,
)


KEY = SecretStr("sk-very-secret-0123456789abcdef")
PROMPT = "the prompt with the code word xylophone"
LOOK_UP = ToolDefinition(
    "look_up", "Looks up.", {"type": "object", "properties": {"id": {"type": "integer"}}}
)
CALLS = (ToolCall("c1", "look_up", '{"id":7}'), ToolCall("c2", "look_up", '{"id":8}'))


def asking(model: str = "openai/gpt-4o-mini", **options: object) -> ChatRequest:
    return ChatRequest(model, (Message("user", PROMPT),), **options)  # type: ignore[arg-type]


@pytest.fixture
async def openai(openai_server: OpenAIServer) -> AsyncIterator[OpenAIProvider]:
    provider = OpenAIProvider(api_key=KEY, base_url=openai_server.url)
    yield provider
    await provider.aclose()


@pytest.fixture
async def anthropic(openai_server: OpenAIServer) -> AsyncIterator[AnthropicProvider]:
    provider = AnthropicProvider(api_key=KEY, base_url=openai_server.url)
    yield provider
    await provider.aclose()


@pytest.fixture(params=["openai/gpt-4o-mini", "anthropic/claude-haiku-4-5"])
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def provider(model: str, openai: OpenAIProvider, anthropic: AnthropicProvider) -> Provider:
    return openai if model.startswith("openai/") else anthropic


async def first_words(chunks: AsyncIterator[CompletionChunk]) -> AsyncIterator[CompletionChunk]:
    """Yield the first chunk that says something."""
    async for chunk in chunks:
        if chunk != ALIVE:
            yield chunk
            return


async def streamed(provider: Provider, request: ChatRequest) -> list[CompletionChunk]:
    return [chunk async for chunk in provider.stream(request) if chunk != ALIVE]


async def test_openai_is_asked_in_its_words(openai: OpenAIProvider, openai_server: OpenAIServer):
    options = ChatOptions(tool_choice="look_up", top_p=0.5, stop=("END",), seed=3)
    await openai.complete(asking(temperature=0.1, max_tokens=9, tools=(LOOK_UP,), options=options))

    (request,) = openai_server.requests
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == f"Bearer {KEY.get_secret_value()}"
    assert request.body == {
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": PROMPT}],
        "temperature": 0.1,
        "max_tokens": 9,
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "look_up",
                    "description": "Looks up.",
                    "parameters": LOOK_UP.parameters,
                },
            }
        ],
        "tool_choice": {"type": "function", "function": {"name": "look_up"}},
        "top_p": 0.5,
        "stop": ["END"],
        "seed": 3,
    }


async def test_models_that_think_take_their_limit_under_another_name(
    openai: OpenAIProvider, openai_server: OpenAIServer
):
    await openai.complete(asking("openai/gpt-5-mini", max_tokens=9))

    body = openai_server.requests[0].body
    assert (body.get("max_tokens"), body["max_completion_tokens"]) == (None, 9)


async def test_mistral_is_not_asked_for_what_it_does_not_know(openai_server: OpenAIServer):
    provider = OpenAIProvider("mistral", api_key=KEY, base_url=openai_server.url)
    await streamed(provider, asking("mistral/small", options=ChatOptions(seed=3)))
    await provider.aclose()

    body = openai_server.requests[0].body
    assert body["random_seed"] == 3
    assert not {"seed", "stream_options"} & set(body)


async def test_anthropic_is_asked_in_its_words(
    anthropic: AnthropicProvider, openai_server: OpenAIServer
):
    turns = (
        Message("system", "Be brief."),
        Message("user", "find two"),
        Message("assistant", "", tool_calls=CALLS),
        Message("tool", "seven", tool_call_id="c1"),
        Message("tool", "eight", tool_call_id="c2"),
        Message("user", "thanks"),
        Message("assistant", "So: "),
    )
    options = ChatOptions(tool_choice="required", top_p=0.5, stop=("END",), seed=3)
    await anthropic.complete(
        ChatRequest("anthropic/claude-haiku-4-5", turns, 0.1, None, (LOOK_UP,), options)
    )

    (request,) = openai_server.requests
    assert request.path == "/v1/messages"
    assert request.headers["x-api-key"] == KEY.get_secret_value()
    assert request.headers["anthropic-version"] == "2023-06-01"
    assert "authorization" not in request.headers
    uses = [
        {"type": "tool_use", "id": call.id, "name": "look_up", "input": json.loads(call.arguments)}
        for call in CALLS
    ]
    results = [
        {"type": "tool_result", "tool_use_id": "c1", "content": "seven"},
        {"type": "tool_result", "tool_use_id": "c2", "content": "eight"},
        {"type": "text", "text": "thanks"},
    ]
    assert request.body == {
        "model": "claude-haiku-4-5",
        "max_tokens": 4096,
        "system": "Be brief.",
        "messages": [
            {"role": "user", "content": "find two"},
            {"role": "assistant", "content": uses},
            {"role": "user", "content": results},
            {"role": "assistant", "content": "So:"},
        ],
        "temperature": 0.1,
        "tools": [
            {"name": "look_up", "description": "Looks up.", "input_schema": LOOK_UP.parameters}
        ],
        "tool_choice": {"type": "any"},
        "top_p": 0.5,
        "stop_sequences": ["END"],
    }


async def test_anthropic_wants_a_turn_of_the_user(anthropic: AnthropicProvider):
    with pytest.raises(ValidationError, match="no turn of the user"):
        await anthropic.complete(ChatRequest("anthropic/x", (Message("system", "Be brief."),)))


@pytest.mark.parametrize("tools", [(), (LOOK_UP,)], ids=["alone", "beside tools"])
async def test_anthropic_answers_by_a_schema(
    anthropic: AnthropicProvider, openai_server: OpenAIServer, tools: tuple[ToolDefinition, ...]
):
    schema = {"type": "object", "properties": {"impact": {"type": "integer"}}}
    answer = (ToolCall("c9", "answer_as_json", '{"impact":2}'),)
    openai_server.always(Reply(tool_calls=answer))
    request = asking("anthropic/x", tools=tools, options=ChatOptions(output_schema=schema))

    whole = await anthropic.complete(request)
    chunks = await streamed(anthropic, request)

    sent = openai_server.requests[0].body
    assert sent["tools"][-1]["input_schema"] == schema  # type: ignore[index]
    assert sent["tool_choice"]["type"] == ("any" if tools else "tool")  # type: ignore[index]
    assert (whole.text, whole.finish_reason, whole.tool_calls) == ('{"impact":2}', "stop", ())
    assert "".join(chunk.text for chunk in chunks) == '{"impact":2}'
    assert (chunks[-1].finish_reason, chunks[-1].tool_calls) == ("stop", ())


async def test_openai_answers_by_a_schema(openai: OpenAIProvider, openai_server: OpenAIServer):
    schema = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    await openai.complete(asking(options=ChatOptions(output_schema=schema)))

    assert openai_server.requests[0].body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": schema, "strict": True},
    }


async def test_whole_and_streamed_answers_say_the_same(
    provider: Provider, model: str, openai_server: OpenAIServer
):
    openai_server.always(Reply(chunks=("Hé", "llo 🙂", " there"), tool_calls=CALLS, usage=(7, 3)))

    whole = await provider.complete(asking(model, tools=(LOOK_UP,)))
    chunks = await streamed(provider, asking(model, tools=(LOOK_UP,)))

    assert whole.text == "Héllo 🙂 there"
    assert [chunk.text for chunk in chunks] == ["Hé", "llo 🙂", " there", ""]
    last = chunks[-1]
    assert whole.tool_calls == last.tool_calls == CALLS
    assert whole.finish_reason == last.finish_reason == "tool_calls"
    assert last.usage == whole.usage
    assert (whole.usage.input_tokens, whole.usage.output_tokens) == (7, 3)


async def test_a_stream_may_be_cut_anywhere(openai: OpenAIProvider, openai_server: OpenAIServer):
    events = [
        {"choices": [{"index": 0, "delta": {"content": "hé🙂"}, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    ]
    sent = b": hello\r\n\r\n" + b"".join(
        f"data: {json.dumps(event, ensure_ascii=False)}\r\n\r\n".encode() for event in events
    )
    sent += b"data: [DONE]\r\n\r\n"
    for size in (1, 3, 7):
        pieces = tuple(sent[place : place + size] for place in range(0, len(sent), size))
        openai_server.reply(Reply(raw=pieces))

        chunks = await streamed(openai, asking())

        assert "".join(chunk.text for chunk in chunks) == "hé🙂"
        assert chunks[-1].finish_reason == "stop"


async def test_a_stream_without_usage_is_not_counted_as_free(
    provider: Provider, model: str, openai_server: OpenAIServer
):
    openai_server.reply(Reply(chunks=("four letters " * 4,), usage=None))

    usage = (await streamed(provider, asking(model)))[-1].usage

    assert usage is not None
    assert usage.input_tokens > 0
    assert usage.output_tokens > 0


async def test_one_connection_serves_calls_in_a_row(
    openai: OpenAIProvider, openai_server: OpenAIServer
):
    for _ in range(3):
        await openai.complete(asking())
        await streamed(openai, asking())

    assert not any(request.disconnected for request in openai_server.requests)
    pool = openai._http._pool
    assert pool is not None
    connector = pool._session.connector
    assert connector is not None
    assert len(connector._conns) == 1
    assert sum(map(len, connector._conns.values())) == 1


async def test_a_refusal_is_no_answer_to_keep(openai: OpenAIProvider, openai_server: OpenAIServer):
    message = {"role": "assistant", "content": None, "refusal": "I can not."}
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    openai_server.reply(Reply(body=json.dumps(body)))

    answer = await openai.complete(asking())

    assert (answer.text, answer.finish_reason) == ("I can not.", "content_filter")


@pytest.mark.parametrize("numbers", [True, False], ids=["numbers", "base64"])
async def test_vectors_come_in_the_order_of_the_texts(
    openai: OpenAIProvider,
    openai_server: OpenAIServer,
    numbers: bool,  # noqa: FBT001
):
    vectors = ((1.0, 0.0), (0.0, 1.0), (0.5, -0.25))
    if numbers:
        data = [{"index": at, "embedding": vectors[at]} for at in (2, 0, 1)]
        openai_server.reply(Reply(body=json.dumps({"data": data, "usage": {"prompt_tokens": 6}})))
    else:
        openai_server.reply(Reply(vectors=vectors, usage=(6, 0)))

    result = await openai.embed(EmbeddingRequest("openai/e", ("a", "b", "c")))

    assert result.vectors == vectors
    assert result.usage.input_tokens == 6


@pytest.mark.parametrize("embedding", ["no base64!", "AAA=", [1, "x"], {}])
async def test_odd_vectors_are_a_provider_error(
    openai: OpenAIProvider, openai_server: OpenAIServer, embedding: object
):
    openai_server.reply(Reply(body=json.dumps({"data": [{"index": 0, "embedding": embedding}]})))

    with pytest.raises(ProviderError):
        await openai.embed(EmbeddingRequest("openai/e", ("a",)))


@pytest.mark.parametrize("places", [(0, 0), (0, 2), (1, 2), (-1, 0)])
async def test_vectors_whose_texts_are_not_known_are_a_provider_error(
    openai: OpenAIProvider, openai_server: OpenAIServer, places: tuple[int, int]
):
    data = [{"index": place, "embedding": [1.0]} for place in places]
    openai_server.reply(Reply(body=json.dumps({"data": data})))

    with pytest.raises(ProviderError):
        await openai.embed(EmbeddingRequest("openai/e", ("a", "b")))


async def test_a_large_request_is_sent_whole_and_without_a_warning(
    openai: OpenAIProvider, openai_server: OpenAIServer
):
    text = "incident " * 300_000
    openai_server.reply(Reply(text="short"))

    answer = await openai.complete(ChatRequest("openai/m", (Message("user", text),)))

    assert answer.text == "short"
    assert openai_server.requests[0].body["messages"][0]["content"] == text  # type: ignore[index]


def error(message: str, **more: object) -> str:
    return json.dumps(
        {"error": {"message": f"{message} {PROMPT} {KEY.get_secret_value()}", **more}}
    )


TOO_LONG = "This model's maximum context length is 8192 tokens."


@pytest.mark.parametrize(
    ("reply", "kind", "retryable"),
    [
        (Reply(status=301, headers={"Location": "/elsewhere"}, body=""), ProviderError, False),
        (Reply(status=400), ValidationError, False),
        (Reply(status=400, body=error(TOO_LONG)), ContextLengthError, False),
        (
            Reply(status=400, body=error("x", code="context_length_exceeded")),
            ContextLengthError,
            False,
        ),
        (Reply(status=400, body=error("prompt is too long: 9 > 8")), ContextLengthError, False),
        (Reply(status=400, body=error("x", code="content_filter")), ContentPolicyError, False),
        (Reply(status=401), ConfigurationError, False),
        (Reply(status=402), ProviderError, False),
        (Reply(status=403), ConfigurationError, False),
        (Reply(status=404), ConfigurationError, False),
        (Reply(status=408), ProviderError, True),
        (Reply(status=409), ProviderError, True),
        (Reply(status=413), ValidationError, False),
        (Reply(status=422), ValidationError, False),
        (Reply(status=429), RateLimitError, True),
        (Reply(status=429, body=error("x", code="insufficient_quota")), ProviderError, False),
        (Reply(status=500), ProviderError, True),
        (Reply(status=502, body="<html>bad gateway</html>"), ProviderError, True),
        (Reply(status=503), ProviderError, True),
        (Reply(status=529), ProviderError, True),
        (Reply(body="<html>log in</html>"), ProviderError, True),
        (Reply(body='{"choices": []}'), ProviderError, False),
        (Reply(body='{"choices": 7, "content": 7}'), ProviderError, False),
        (Reply(body=error("x", code=429)), RateLimitError, True),
        (Reply(body=error("x", type="overloaded_error")), ProviderError, True),
        (Reply(text="whole", cut=20), ProviderError, True),
    ],
    ids=lambda value: (
        f"{value.status}-{(value.body or '')[-30:]}" if isinstance(value, Reply) else ""
    ),
)
async def test_each_failure_is_one_of_our_errors_and_tried_once(
    provider: Provider,
    model: str,
    openai_server: OpenAIServer,
    caplog: pytest.LogCaptureFixture,
    reply: Reply,
    kind: type[SDKError],
    retryable: bool,  # noqa: FBT001 - a parameter of the test
):
    caplog.set_level(logging.DEBUG)
    openai_server.always(reply)

    with pytest.raises(kind) as raised:
        await provider.complete(asking(model))

    assert type(raised.value) is kind
    assert raised.value.retryable == retryable
    assert len(openai_server.requests) == 1
    if isinstance(raised.value, ProviderError) and reply.status > 200:
        assert raised.value.status == reply.status
    shown = "".join(traceback.format_exception(raised.value)) + caplog.text
    assert "xylophone" not in shown
    assert KEY.get_secret_value() not in shown


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(("header", "seconds"), [("7", 7), ("Thu, 01 Jan 1970 00:00:00 GMT", 0)])
async def test_retry_after_is_told(
    openai: OpenAIProvider, openai_server: OpenAIServer, status: int, header: str, seconds: float
):
    openai_server.reply(Reply(status=status, headers={"Retry-After": header}))

    with pytest.raises((RateLimitError, ProviderError)) as raised:
        await openai.complete(asking())

    assert raised.value.retry_after == seconds


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ({"error": {"type": "overloaded_error", "message": PROMPT}}, ProviderError),
        ({"error": {"type": "rate_limit_error", "message": PROMPT}}, RateLimitError),
        ({"error": {"code": 502, "message": PROMPT}}, ProviderError),
        ({"error": PROMPT}, ProviderError),
        ([1, 2], ProviderError),
        ({"choices": "x", "type": 5}, ProviderError),
    ],
)
async def test_an_error_within_a_stream_is_raised(
    provider: Provider, model: str, openai_server: OpenAIServer, event: object, kind: type[SDKError]
):
    openai_server.reply(Reply(events=(json.dumps(event),)))

    with pytest.raises(kind) as raised:
        await streamed(provider, asking(model))

    assert "xylophone" not in str(raised.value)


@pytest.mark.parametrize("cut", range(1, 8))
async def test_a_stream_cut_after_any_event_is_an_error(
    provider: Provider, model: str, openai_server: OpenAIServer, cut: int
):
    openai_server.reply(Reply(chunks=("one ", "two ", "three"), cut=cut))

    try:
        chunks = await streamed(provider, asking(model))
    except ProviderError:
        pass
    else:  # everything had arrived
        assert "".join(chunk.text for chunk in chunks) == "one two three"
        assert cut >= 5


async def test_a_stream_that_ends_without_a_reason_is_an_error(
    provider: Provider, model: str, openai_server: OpenAIServer
):
    openai_server.reply(Reply(events=()))

    with pytest.raises(ProviderError, match="ended before"):
        await streamed(provider, asking(model))


async def test_provider_that_writes_the_arguments_of_a_tool_is_not_silent(
    provider: Provider, model: str, openai_server: OpenAIServer
):
    calls = tuple(ToolCall(f"c{number}", "look_up", '{"q": "x"}') for number in range(8))
    openai_server.always(Reply(text="", chunks=(), tool_calls=calls, chunk_delay=0.06))

    parts = [part async for part in provider.stream(asking(model, tools=(LOOK_UP,)))]
    async with create_gateway([provider], model) as gateway:
        stream = gateway.stream("Hi", tools=(LOOK_UP,), timeout=0.4, tenant_id="acme")
        said = [chunk async for chunk in stream]

    assert parts.count(ALIVE) >= 4
    assert [chunk.tool_calls for chunk in said] == [calls]


async def test_leaving_a_stream_ends_the_request(
    provider: Provider, model: str, openai_server: OpenAIServer
):
    openai_server.reply(Reply(chunks=("one ", "two "), hang=True))

    async with aclosing(provider.stream(asking(model))) as chunks:  # type: ignore[type-var]
        said = [chunk.text async for chunk in first_words(chunks)]

    assert said == ["one "]
    assert (await asyncio.to_thread(openai_server.wait_for_disconnect)).body["stream"] is True


async def test_cancelling_a_call_ends_the_request(
    provider: Provider, model: str, openai_server: OpenAIServer
):
    openai_server.reply(Reply(text="late", hang=True))
    call = asyncio.create_task(provider.complete(asking(model)))
    async with asyncio.timeout(20):
        while not openai_server.requests:  # noqa: ASYNC110 - the server is another process
            await asyncio.sleep(0.01)
    call.cancel()
    await asyncio.wait({call})

    await asyncio.to_thread(openai_server.wait_for_disconnect)
    assert call.cancelled()


async def test_silence_and_size_are_bounded(openai_server: OpenAIServer):
    limits = HttpLimits(read_timeout=0.2, largest_answer=2_000)
    provider = OpenAIProvider(api_key=KEY, base_url=openai_server.url, limits=limits)
    openai_server.reply(
        Reply(hang=True), Reply(text="x" * 3_000), Reply(chunks=("x" * 3_000,)), Reply(text="fine")
    )

    with pytest.raises(ProviderError, match="fell silent") as silent:
        await provider.complete(asking())
    with pytest.raises(ProviderError, match="larger"):
        await provider.complete(asking())
    with pytest.raises(ProviderError, match="larger"):
        await streamed(provider, asking())

    assert silent.value.retryable
    assert (await provider.complete(asking())).text == "fine"
    await provider.aclose()


async def test_a_server_that_is_not_there_is_a_provider_error():
    provider = OpenAIProvider(api_key=KEY, base_url="http://127.0.0.1:9/v1")
    with pytest.raises(ProviderError) as raised:
        await provider.complete(asking())
    assert raised.value.retryable
    await provider.aclose()


async def test_a_certificate_that_nobody_signed_is_refused(tmp_path: Path):
    asked = asyncio.Event()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path))
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    provider = OpenAIProvider(api_key=KEY, base_url=f"https://127.0.0.1:{port}/v1")
    async with server:
        with pytest.raises(ProviderError, match="Certificate"):
            await provider.complete(asking())
    await provider.aclose()
    assert not asked.is_set()


def self_signed(folder: Path) -> Path:
    """Write a key and a certificate of its own into one file."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    pem = serialization.Encoding.PEM
    path.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(pem)
    )
    return path


async def test_a_closed_provider_refuses(openai: OpenAIProvider):
    await openai.complete(asking())
    await openai.aclose()
    with pytest.raises(GatewayError, match="closed"):
        await openai.complete(asking())


async def test_what_json_cannot_hold_is_refused(openai: OpenAIProvider):
    with pytest.raises(ValidationError, match="JSON"):
        await openai.complete(ChatRequest("openai/x", (Message("user", "\ud800"),)))


@pytest.mark.parametrize(
    "address",
    ["ftp://host/v1", "host/v1", "https://", "https://user:pass@host/v1", "http://h/?k=1"],
)
def test_an_address_that_cannot_be_called_is_refused(address: str):
    with pytest.raises(ConfigurationError, match="address"):
        OpenAIProvider(api_key=KEY, base_url=address)


@pytest.mark.parametrize("key", ["", "two words", "line\nbreak", "schlüssel"])
def test_a_key_that_no_header_can_carry_is_refused(key: str):
    with pytest.raises(ConfigurationError, match="key") as raised:
        AnthropicProvider(api_key=SecretStr(key))
    assert "schl" not in str(raised.value)


def test_an_unknown_name_needs_an_address():
    with pytest.raises(ConfigurationError, match="nobody-knows"):
        OpenAIProvider("nobody-knows")


async def test_without_a_key_the_call_is_refused_before_it_is_sent(
    monkeypatch: pytest.MonkeyPatch,
):
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for provider in (OpenAIProvider(), AnthropicProvider()):
        with pytest.raises(ConfigurationError, match="has no key"):
            await provider.complete(asking())
        assert (await provider.health()).status == "down"
    monkeypatch.setenv("OPENAI_API_KEY", "sk-from-the-environment")
    assert (await OpenAIProvider().health()).status == "ok"


class Keys:
    """Knows a key for some tenants."""

    async def api_key(self, provider: str, tenant: TenantId) -> SecretStr | None:
        await asyncio.sleep(0)
        return None if tenant == "plain" else SecretStr(f"{provider}-of-{tenant}")


@pytest.mark.filterwarnings("ignore:.*`ReadOnly` qualifier:UserWarning")
@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince211")
@pytest.mark.parametrize("lane", ["openai", "litellm:openai"])
async def test_each_tenant_s_calls_carry_its_own_key(openai_server: OpenAIServer, lane: str):
    tenants = ["acme", "globex", "plain"] * 10
    async with create_gateway(
        [lane],
        "openai/gpt-4o-mini",
        {"openai": "sk-ours"},
        base_urls={"openai": openai_server.url},
        tenant_keys=Keys(),
    ) as gateway:
        await asyncio.gather(
            *(
                gateway.generate_async(f"{tenant} {number}", tenant_id=tenant)
                for number, tenant in enumerate(tenants)
            )
        )

    own = {"acme": "openai-of-acme", "globex": "openai-of-globex", "plain": "sk-ours"}
    for request in openai_server.requests:
        tenant = request.body["messages"][0]["content"].split()[0]  # type: ignore[index]
        assert request.headers["authorization"] == f"Bearer {own[tenant]}"
    assert len(openai_server.requests) == len(tenants)


async def test_no_cookie_of_one_tenant_reaches_another(
    openai: OpenAIProvider, openai_server: OpenAIServer
):
    openai_server.always(Reply(headers={"Set-Cookie": "session=of-acme; Path=/"}))
    for tenant in ("acme", "globex"):
        with tenant_scope(tenant):
            await openai.complete(asking())

    assert all("cookie" not in request.headers for request in openai_server.requests)


async def test_a_proxy_of_the_environment_is_used(
    openai_server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("http_proxy", openai_server.url.removesuffix("/v1"))
    monkeypatch.delenv("no_proxy", raising=False)
    provider = OpenAIProvider("our-own", base_url="http://models.invalid")
    await provider.complete(asking("our-own/x"))
    await provider.aclose()

    assert openai_server.requests[0].path == "http://models.invalid/v1/chat/completions"
    assert openai_server.requests[0].headers["host"] == "models.invalid"


async def test_the_native_lane_never_imports_litellm(openai_server: OpenAIServer):
    code = (
        "import asyncio, sys\n"
        "from motadata.gateway import create_gateway\n"
        "assert not {'litellm', 'aiohttp', 'numpy'} & set(sys.modules)\n"
        "async def main():\n"
        f"    async with create_gateway(['openai'], 'openai/x', {{'openai': 'k'}},"
        f" base_urls={{'openai': {openai_server.url!r}}}) as gateway:\n"
        "        await gateway.generate_async('hello', tenant_id='acme')\n"
        "asyncio.run(main())\n"
        "assert 'litellm' not in sys.modules\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-c", code, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")


async def test_a_closed_gateway_leaves_no_session_and_no_connection_open(
    openai_server: OpenAIServer,
):
    openai_server.always(Reply(chunks=("one ", "two ", "three"), delay=0.02))
    keys = {"openai": "k", "anthropic": "k"}
    urls = dict.fromkeys(keys, openai_server.url)
    gc.collect()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always", ResourceWarning)
        async with create_gateway([*keys], "openai/m", keys, base_urls=urls) as gateway:
            for model in ("openai/m", "anthropic/m"):
                await gateway.generate_async("hello", model=model, tenant_id="acme")
                async with aclosing(gateway.stream("hi", model=model, tenant_id="acme")) as chunks:
                    await anext(chunks)
                calls = [
                    asyncio.create_task(
                        gateway.generate_async(f"{number}", model=model, tenant_id="acme")
                    )
                    for number in range(20)
                ]
                await asyncio.sleep(0.03)
                for call in calls[::2]:
                    call.cancel()
                await asyncio.gather(*calls, return_exceptions=True)
        gc.collect()

    assert [str(one.message) for one in seen if issubclass(one.category, ResourceWarning)] == []
