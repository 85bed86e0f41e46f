"""The gateway itself: it chooses the provider of a model and sends each call through the steps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from dataclasses import replace
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from motadata.core.errors import GatewayError
from motadata.core.models import (
    Completion,
    CompletionChunk,
    Embeddings,
    Health,
    HealthStatus,
    Message,
    ToolDefinition,
)
from motadata.core.prompts import TokenCounter, count_message, create_token_counter
from motadata.core.protocols import Cache, CachePolicy
from motadata.gateway._call import (
    Attribution,
    Call,
    ChatStep,
    EmbeddingStep,
    Emit,
    chained,
)
from motadata.gateway._requests import (
    ChatOptions,
    ChatRequest,
    EmbeddingRequest,
    as_messages,
    as_texts,
    as_tuple,
    check_messages,
    check_model,
)
from motadata.gateway._routing import Routes
from motadata.gateway._structured import Output, Structured, structured


_CHUNKS_AHEAD = 16
_ENDING = 5.0
_COUNTED_HERE = 2_000
_NOBODY = Attribution()
_PLAIN = ChatOptions()


@runtime_checkable
class _HasHealth(Protocol):
    async def health(self) -> Health:
        """Say how it is."""
        ...


class LLMGateway:
    """Calls models on behalf of a tenant; made by `create_gateway`.

    An async context manager: leaving it closes the providers. Safe for concurrent use on one event
    loop.
    """

    def __init__(
        self,
        routes: Routes,
        *,
        default_model: str,
        default_embedding_model: str,
        cache: Cache | None,
        timeout: float,
        chat_steps: Sequence[ChatStep],
        embedding_steps: Sequence[EmbeddingStep],
        parts: Sequence[object] = (),
        policy: str = "",
    ) -> None:
        self._routes = routes
        self._chat = chained(chat_steps)
        self._embed = chained(embedding_steps)
        self._parts = parts
        self._policy = policy
        self._stack = AsyncExitStack()
        self._default_model = default_model
        self._default_embedding_model = default_embedding_model
        self._cache = cache
        self._timeout = timeout
        self._closed = False
        self._counter: TokenCounter | None = None

    async def generate_async(
        self,
        prompt: str | Sequence[Message],
        *,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        tools: Sequence[ToolDefinition] = (),
        options: ChatOptions = _PLAIN,
        timeout: float | None = None,
        cache: CachePolicy = "use",
        attribution: Attribution = _NOBODY,
        tenant_id: str | None = None,
    ) -> Completion:
        """Return the model's whole answer.

        An answer that the tenant was given before to the same request comes from the response
        cache, when the gateway has one; one that was cut off is never kept there.

        Args:
            prompt: One turn of the user, or a conversation.
            model: `provider/model`; None means the gateway's default.
            temperature: 0 to 2; None leaves it to the provider.
            max_tokens: Most tokens of the answer; None leaves it to the provider.
            tools: Functions that the model may ask for.
            options: Choice of tools, seed, stops and the rest.
            timeout: Seconds; None means the gateway's default.
            cache: What to do with the response cache.
            attribution: On whose behalf, for the bill and for evaluation.
            tenant_id: None means the tenant of the scope.

        Raises:
            TenantRequiredError: No tenant is given and none is in scope.
            ValidationError: The request cannot be right.
            ConfigurationError: The model is unknown, or its provider has no key.
            ProviderError: The provider failed or did not answer within `timeout`.
            RateLimitError: The provider asks to wait.
        """
        request = self._chat_request(prompt, model, temperature, max_tokens, tools, options)
        return await self._complete(request, timeout, cache, attribution, tenant_id, None)

    async def stream(
        self,
        prompt: str | Sequence[Message],
        *,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        tools: Sequence[ToolDefinition] = (),
        options: ChatOptions = _PLAIN,
        timeout: float | None = None,
        cache: CachePolicy = "use",
        attribution: Attribution = _NOBODY,
        tenant_id: str | None = None,
    ) -> AsyncIterator[CompletionChunk]:
        """Yield the answer as it comes; the last chunk carries finish reason, tools and usage.

        Closing the iterator (`aclosing`), or cancelling whoever reads it, ends the provider's
        request. An answer from the response cache comes in one piece.

        Args:
            prompt: One turn of the user, or a conversation.
            model: `provider/model`; None means the gateway's default.
            temperature: 0 to 2; None leaves it to the provider.
            max_tokens: Most tokens of the answer; None leaves it to the provider.
            tools: Functions that the model may ask for.
            options: Choice of tools, seed, stops and the rest.
            timeout: Seconds for each part of the answer; None means the gateway's default.
            cache: What to do with the response cache.
            attribution: On whose behalf, for the bill and for evaluation.
            tenant_id: None means the tenant of the scope.

        Raises:
            TenantRequiredError: No tenant is given and none is in scope.
            ValidationError: The request cannot be right.
            ConfigurationError: The model is unknown, or its provider has no key.
            ProviderError: The provider failed, or fell silent for `timeout`.
            RateLimitError: The provider asks to wait.
        """
        request = self._chat_request(prompt, model, temperature, max_tokens, tools, options)

        def complete(emit: Emit) -> Awaitable[Completion]:
            return self._complete(request, timeout, cache, attribution, tenant_id, emit)

        async with aclosing(_streamed(complete)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def generate_structured(  # noqa: PLR0913 - all but two by name, and each has a default
        self,
        prompt: str | Sequence[Message],
        output: type[Output],
        *,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        options: ChatOptions = _PLAIN,
        most_attempts: int = 3,
        timeout: float | None = None,
        cache: CachePolicy = "use",
        attribution: Attribution = _NOBODY,
        tenant_id: str | None = None,
    ) -> Structured[Output]:
        """Return the model's answer as an object, asking again when it does not fit.

            class Triage(BaseModel):
                impact: Literal[1, 2, 3]
                urgency: Literal[1, 2, 3]

            triage = (await gateway.generate_structured(report, Triage, tenant_id="acme")).value

        Args:
            prompt: One turn of the user, or a conversation.
            output: What the answer is to be, as a pydantic model.
            model: `provider/model`; None means the gateway's default.
            temperature: 0 to 2; None leaves it to the provider.
            max_tokens: Most tokens of an answer; None leaves it to the provider.
            options: Seed, stops and the rest; the schema is the one of `output`.
            most_attempts: How many answers may be asked for, the first one included.
            timeout: Seconds for all attempts; None means the gateway's default.
            cache: What to do with the response cache.
            attribution: On whose behalf, for the bill and for evaluation.
            tenant_id: None means the tenant of the scope.

        Raises:
            OutputFormatError: No answer fitted.
            TenantRequiredError: No tenant is given and none is in scope.
            ValidationError: The request cannot be right.
            ConfigurationError: The model is unknown, or its provider has no key.
            ProviderError: The provider failed, was cut off, or the time is over.
            RateLimitError: The provider asks to wait.
        """
        seconds = self._timeout if timeout is None else timeout

        async def ask(messages: Sequence[Message], schema: dict[str, object] | None) -> Completion:
            return await self.generate_async(
                messages,
                model=model,
                temperature=temperature,
                max_tokens=max_tokens,
                options=replace(options, output_schema=schema),
                timeout=seconds,
                cache=cache,
                attribution=attribution,
                tenant_id=tenant_id,
            )

        messages = as_messages(prompt)
        return await structured(ask, messages, output, most_attempts=most_attempts, timeout=seconds)

    async def count_tokens(
        self, prompt: str | Sequence[Message], *, model: str | None = None
    ) -> int:
        """Return how many tokens a prompt has for a model.

        Exact for OpenAI's models where their vocabularies are installed, an estimate within a few
        percent for the others. Nothing is sent anywhere.

        Args:
            prompt: One turn of the user, or a conversation.
            model: `provider/model`; None means the gateway's default.

        Raises:
            ConfigurationError: The model names no provider.
        """
        name = self._named(model, self._default_model).partition("/")[2]
        if self._counter is None:
            self._counter = await create_token_counter()
        counter = self._counter
        messages = as_messages(prompt)
        check_messages(messages)
        if sum(len(message.content) for message in messages) < _COUNTED_HERE:
            return sum(count_message(message, counter, model=name) for message in messages)
        return await asyncio.to_thread(
            lambda: sum(count_message(message, counter, model=name) for message in messages)
        )

    async def embed(
        self,
        texts: Sequence[str],
        *,
        model: str | None = None,
        timeout: float | None = None,
        cache: CachePolicy = "use",
        attribution: Attribution = _NOBODY,
        tenant_id: str | None = None,
    ) -> Embeddings:
        """Return one unit-length vector a text, in order; no texts give no vectors.

        Texts that the tenant had embedded before come from the response cache, when there is one;
        a text that occurs twice is sent once.

        Args:
            texts: None of them empty.
            model: `provider/model`; None means the gateway's default embedding model.
            timeout: Seconds for all of them; None means the gateway's default.
            cache: What to do with the response cache.
            attribution: On whose behalf, for the bill.
            tenant_id: None means the tenant of the scope.

        Raises:
            TenantRequiredError: No tenant is given and none is in scope.
            ValidationError: A text is empty.
            ConfigurationError: The model is unknown or not installed, or its provider has no key.
            ProviderError: The provider failed or did not answer within `timeout`.
            RateLimitError: The provider asks to wait.
        """
        self._check_open()
        name = self._named(model, self._default_embedding_model)
        call = Call(
            request=EmbeddingRequest(name, as_texts(texts)),
            provider=self._routes.provider(name),
            timeout=self._timeout if timeout is None else timeout,
            tenant_id=tenant_id,
            cache=self._cache,
            cache_policy=cache,
            attribution=attribution,
            policy=self._policy,
            routes=self._routes,
        )
        return await self._embed(call)

    async def health(self) -> Health:
        """Say which providers can be called, and how the parts are; nothing is called for it.

        A part that is unwell, such as a usage log whose database is away, makes the gateway
        degraded: calls go on.
        """
        if self._closed:
            return Health("down", detail="The gateway is closed.")
        health = await self._routes.health(self._default_model, self._default_embedding_model)
        parts = [await part.health() for part in self._parts if isinstance(part, _HasHealth)]
        unwell = [part.detail for part in parts if part.status != "ok"]
        if not unwell:
            return health
        status: HealthStatus = "degraded" if health.status == "ok" else health.status
        return Health(status, detail=" ".join(filter(None, (health.detail, *unwell))))

    async def aclose(self) -> None:
        """Close what governs the calls, then the providers; calls fail from now on."""
        self._closed = True
        try:
            await self._stack.aclose()
        finally:
            await self._routes.aclose()

    async def __aenter__(self) -> Self:
        """Start what governs the calls; connections and weights are opened by the first call."""
        async with AsyncExitStack() as stack:
            for part in self._parts:
                if isinstance(part, AbstractAsyncContextManager):
                    await stack.enter_async_context(part)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the providers."""
        await self.aclose()

    def _chat_request(
        self,
        prompt: str | Sequence[Message],
        model: str | None,
        temperature: float | None,
        max_tokens: int | None,
        tools: Sequence[ToolDefinition],
        options: ChatOptions,
    ) -> ChatRequest:
        name = self._named(model, self._default_model)
        messages = as_messages(prompt)
        asked = as_tuple(tools, what="tools", remedy="Pass a list of ToolDefinition.")
        return ChatRequest(name, messages, temperature, max_tokens, asked, options)

    def _named(self, model: str | None, default: str) -> str:
        """Return the full name of the model that a call is for."""
        if model is None:
            return self._routes.full_name(default)
        check_model(model)
        return self._routes.full_name(model)

    def _complete(
        self,
        request: ChatRequest,
        timeout: float | None,
        cache: CachePolicy,
        attribution: Attribution,
        tenant_id: str | None,
        emit: Emit | None,
    ) -> Awaitable[Completion]:
        self._check_open()
        call = Call(
            request=request,
            provider=self._routes.provider(request.model),
            timeout=self._timeout if timeout is None else timeout,
            tenant_id=tenant_id,
            cache=self._cache,
            cache_policy=cache,
            emit=emit,
            attribution=attribution,
            policy=self._policy,
            routes=self._routes,
        )
        return self._chat(call)

    def _check_open(self) -> None:
        if self._closed:
            message = "The gateway is closed."
            raise GatewayError(message, remedy="Call it within its `async with` block.")


async def _streamed(
    complete: Callable[[Emit], Awaitable[Completion]],
) -> AsyncGenerator[CompletionChunk]:
    """Yield what a call emits, and end the call when the reader leaves.

    A task of its own keeps the span and the tenant's scope of the call out of the reader's context,
    whatever the reader does between two chunks.
    """
    chunks: asyncio.Queue[CompletionChunk | None] = asyncio.Queue(_CHUNKS_AHEAD)

    async def produce() -> None:
        try:
            await complete(chunks.put)
        except asyncio.CancelledError:
            raise
        except BaseException:
            await chunks.put(None)
            raise
        await chunks.put(None)

    producer = asyncio.create_task(produce(), name="gateway-stream")
    try:
        while (chunk := await chunks.get()) is not None:
            yield chunk
        await producer
    finally:
        producer.cancel()
        # A provider that does not let go must not hold its reader.
        await asyncio.wait({producer}, timeout=_ENDING)
        if producer.done() and not producer.cancelled():
            producer.exception()
