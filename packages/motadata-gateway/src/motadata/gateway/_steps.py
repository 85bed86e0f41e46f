"""The steps that a call passes, in their order. This is the whole path; there is no other.

A step with nothing to do behind the call returns what the rest of the path returns, instead of
waiting for it: each coroutine less is half a microsecond, and one frame less in a traceback.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final

from motadata.core.errors import ProviderError, ValidationError
from motadata.core.models import Completion, Embeddings, Usage
from motadata.core.observability import Span, get_logger, model_call, span
from motadata.core.resilience import block_timeout, deadline_scope, remaining, time_limit
from motadata.core.tenancy import resolve_tenant, tenant_scope
from motadata.gateway._call import (
    Attribution,
    Call,
    CallPart,
    ChatStep,
    EmbeddingStep,
    Emit,
    Proceed,
    Request,
    Result,
)
from motadata.gateway._provider import ALIVE
from motadata.gateway._requests import (
    ChatRequest,
    EmbeddingRequest,
    check_chat,
    check_embedding,
    check_options,
)
from motadata.gateway._response_cache import cached_completion, cached_vectors
from motadata.gateway._silence import SilenceLimit
from motadata.gateway._usages import total
from motadata.gateway._vectors import unit_length


_LATE: Final = 0.025
"""Seconds for a step that keeps to the deadline to say so, before the whole call is ended."""

_log = get_logger("gateway")


async def for_tenant(call: Call[Request], proceed: Proceed[Request, Result]) -> Result:
    """Resolve the tenant, and make it the tenant of everything inside."""
    tenant = resolve_tenant(call.tenant_id)
    passed = call.copied()
    passed.tenant_id = tenant
    with tenant_scope(tenant):
        return await proceed(passed)


def validated_chat(
    call: Call[ChatRequest], proceed: Proceed[ChatRequest, Completion]
) -> Awaitable[Completion]:
    """Refuse a request that cannot be right."""
    _check_call(call)
    check_chat(call.request)
    return proceed(call)


async def validated_embedding(
    call: Call[EmbeddingRequest], proceed: Proceed[EmbeddingRequest, Embeddings]
) -> Embeddings:
    """Refuse texts that have no vector; answer at once when there is no text."""
    _check_call(call)
    check_embedding(call.request)
    if not call.request.texts:
        return Embeddings((), call.request.model)
    return await proceed(call)


async def traced_chat(
    call: Call[ChatRequest], proceed: Proceed[ChatRequest, Completion]
) -> Completion:
    """Time the call, and note what it used."""
    with span("gateway.generate", model=call.request.model) as current:
        answer = await proceed(call)
        if current.otel.is_recording():
            _describe(current, answer)
        _log.debug(
            "model_answered",
            model=answer.model,
            cached=answer.cached,
            input_tokens=answer.usage.input_tokens,
            output_tokens=answer.usage.output_tokens,
        )
        return answer


async def traced_embedding(
    call: Call[EmbeddingRequest], proceed: Proceed[EmbeddingRequest, Embeddings]
) -> Embeddings:
    """Time the call, and note how many texts it embedded."""
    request = call.request
    with span("gateway.embed", model=request.model, texts=len(request.texts)) as current:
        result = await proceed(call)
        current.set_attribute("input_tokens", result.usage.input_tokens)
        return result


def within_deadline_chat(
    call: Call[ChatRequest], proceed: Proceed[ChatRequest, Completion]
) -> Awaitable[Completion]:
    """End the whole call in its time, whichever step it hangs in.

    A streamed answer may take as long as its parts come; only a deadline around it limits it.
    """
    if call.emit is None:
        return _within_deadline(call, proceed)
    return _streamed_within_deadline(call, proceed)


def within_deadline_embedding(
    call: Call[EmbeddingRequest], proceed: Proceed[EmbeddingRequest, Embeddings]
) -> Awaitable[Embeddings]:
    """End the whole call in its time, whichever step it hangs in."""
    return _within_deadline(call, proceed)


def completed_in_time(
    call: Call[ChatRequest], proceed: Proceed[ChatRequest, Completion]
) -> Awaitable[Completion]:
    """Limit the wait for one provider; a streamed answer limits the wait for each part itself."""
    return _in_time(call, proceed) if call.emit is None else proceed(call)


def embedded_in_time(
    call: Call[EmbeddingRequest], proceed: Proceed[EmbeddingRequest, Embeddings]
) -> Awaitable[Embeddings]:
    """Limit the wait for one provider's vectors."""
    return _in_time(call, proceed)


async def completed_by_provider(
    call: Call[ChatRequest], _proceed: Proceed[ChatRequest, Completion]
) -> Completion:
    """Ask the provider, for the whole answer or part by part."""
    call.notes.attempts += 1
    call.notes.provider, call.notes.model = call.provider.name, call.request.model
    model, provider = call.request.model, call.provider.name
    with model_call("chat", model=model, provider=provider) as timed:
        if call.emit is None:
            answer = await call.provider.complete(call.request)
            usage = _charged(call, answer.usage)
            if usage is not answer.usage or answer.call_id != call.notes.call_id:
                answer = _billed(answer, usage, call.notes.call_id)
        else:
            answer = await _streamed(call, call.emit)
        timed.used(answer.usage, finish_reason=answer.finish_reason)
    return answer


async def embedded_by_provider(
    call: Call[EmbeddingRequest], _proceed: Proceed[EmbeddingRequest, Embeddings]
) -> Embeddings:
    """Ask the provider, and bring its vectors to unit length."""
    call.notes.attempts += 1
    call.notes.provider, call.notes.model = call.provider.name, call.request.model
    model, provider = call.request.model, call.provider.name
    with model_call("embeddings", model=model, provider=provider) as timed:
        result = await call.provider.embed(call.request)
        usage = _charged(call, result.usage)
        timed.used(usage)
    if len(result.vectors) != len(call.request.texts):
        message = (
            f"The model {call.request.model!r} returned {len(result.vectors)} vectors "
            f"for {len(call.request.texts)} texts."
        )
        raise ProviderError(message, remedy="Try again.", retryable=True)
    if len({len(vector) for vector in result.vectors}) > 1:
        message = f"The vectors of the model {call.request.model!r} differ in their length."
        raise ProviderError(message, remedy="Check the provider.", retryable=False)
    vectors = tuple(unit_length(vector) for vector in result.vectors)
    return Embeddings(vectors, result.model, usage)


@dataclass(frozen=True, slots=True, kw_only=True)
class Governance:
    """What governs the calls of a gateway; a part that is left out is a step that is left out.

    Attributes:
        usage: Records every call.
        guardrail_inputs: Checks and masks what is asked, and restores what was masked.
        semantic_cache: Answers from a similar question of the same tenant.
        deduplication: Joins equal calls of a tenant that are under way.
        guardrail_outputs: Checks what is answered, before anything keeps it.
        prices: Knows what providers charge, and the tenant's own prices.
        budgets: Reserves money and tokens before the call and settles them after it.
        limits: Makes a tenant wait its turn.
        batches: Cuts and merges texts to embed.
        routing: Chooses the provider; retries, breaks, falls back.
        provider_limits: Makes each single request wait its turn at the provider's key.
    """

    usage: CallPart | None = None
    guardrail_inputs: CallPart | None = None
    semantic_cache: CallPart | None = None
    deduplication: CallPart | None = None
    guardrail_outputs: CallPart | None = None
    prices: CallPart | None = None
    budgets: CallPart | None = None
    limits: CallPart | None = None
    batches: CallPart | None = None
    routing: CallPart | None = None
    provider_limits: CallPart | None = None

    def parts(self) -> tuple[CallPart, ...]:
        """Return the parts that are there, in the order in which a call passes them."""
        every = (getattr(self, name) for name in self.__slots__)
        return tuple(part for part in every if part is not None)


def chat_steps(governance: Governance) -> tuple[ChatStep, ...]:
    """Return what `generate_async` and `stream` pass, the first step outermost."""
    g = governance
    return (
        for_tenant,
        validated_chat,
        traced_chat,
        *_chat(g.usage),
        within_deadline_chat,
        *_chat(g.guardrail_inputs),
        cached_completion,
        *_chat(g.semantic_cache, g.deduplication, g.guardrail_outputs),
        *_chat(g.prices, g.budgets, g.limits, g.routing, g.provider_limits),
        completed_in_time,
        completed_by_provider,
    )


def embedding_steps(governance: Governance) -> tuple[EmbeddingStep, ...]:
    """Return what `embed` passes, the first step outermost."""
    g = governance
    return (
        for_tenant,
        validated_embedding,
        traced_embedding,
        *_embedding(g.usage),
        within_deadline_embedding,
        *_embedding(g.guardrail_inputs),
        cached_vectors,
        *_embedding(g.deduplication, g.prices, g.budgets, g.limits),
        *_embedding(g.batches, g.routing, g.provider_limits),
        embedded_in_time,
        embedded_by_provider,
    )


def _check_call(call: Call[Request]) -> None:
    check_options(timeout=call.timeout, cache=call.cache_policy)
    attribution: object = call.attribution
    if not isinstance(attribution, Attribution):
        message = f"The attribution is a {type(attribution).__name__}."
        raise ValidationError(message, remedy="Pass Attribution(user=…, feature=…, prompt=…).")


def _chat(*parts: CallPart | None) -> tuple[ChatStep, ...]:
    return tuple(part.chat for part in parts if part is not None)


def _embedding(*parts: CallPart | None) -> tuple[EmbeddingStep, ...]:
    return tuple(part.embedding for part in parts if part is not None)


async def _streamed(call: Call[ChatRequest], emit: Emit) -> Completion:
    """Pass the parts of an answer on, and return the whole."""
    answer = Completion("", call.request.model, "unknown")
    pieces: list[str] = []
    stream = call.provider.stream(call.request)
    # Who relays parts limits the wait for the first one, too.
    hears: Callable[[], None] | None = getattr(emit, "alive", None)
    try:
        async with aclosing(stream) as chunks, SilenceLimit(call.timeout) as silence:  # type: ignore[type-var]  # async generators all
            async for chunk in chunks:
                if chunk == ALIVE:
                    silence.begins()
                    if hears is not None:
                        hears()
                    continue
                silence.ended()
                pieces.append(chunk.text)
                if chunk.finish_reason is not None:
                    # Before it is passed on: who leaves at the last part is charged all the same.
                    usage = None if chunk.usage is None else _charged(call, chunk.usage)
                    answer = replace(
                        answer,
                        finish_reason=chunk.finish_reason,
                        tool_calls=chunk.tool_calls,
                        usage=usage or answer.usage,
                    )
                    model, call_id = call.request.model, call.notes.call_id
                    chunk = replace(chunk, usage=usage, model=model, call_id=call_id)  # noqa: PLW2901
                await emit(chunk)
                silence.begins()
    except TimeoutError as error:
        raise _too_late(call, call.timeout) from error
    return replace(answer, text="".join(pieces))


def _describe(current: Span, answer: Completion) -> None:
    usage = answer.usage
    current.set_attribute("cached", answer.cached)
    current.set_attribute("finish_reason", answer.finish_reason)
    current.set_attribute("input_tokens", usage.input_tokens)
    current.set_attribute("output_tokens", usage.output_tokens)
    if usage.cost_usd is not None:
        current.set_attribute("cost_usd", float(usage.cost_usd))


def _billed(answer: Completion, usage: Usage, call_id: str) -> Completion:
    # Not `replace`: this is on the way of every call, and three times as fast.
    return Completion(
        answer.text,
        answer.model,
        answer.finish_reason,
        answer.tool_calls,
        usage,
        answer.cached,
        answer.shared,
        answer.fallback_from,
        call_id,
    )


def _charged(call: Call[Request], usage: Usage) -> Usage:
    """Return a usage with its price, and note that the call was charged for it."""
    if call.price is not None:
        usage = call.price(call.notes, usage)
    before = call.notes.spent
    call.notes.spent = usage if before is None else total((before, usage))
    return usage


async def _within_deadline(call: Call[Request], proceed: Proceed[Request, Result]) -> Result:
    seconds = remaining(call.timeout) or 0.0
    try:
        with deadline_scope(seconds):
            async with block_timeout(seconds + _LATE):
                return await proceed(call)
    except TimeoutError as error:
        raise _too_late(call, seconds) from error


async def _streamed_within_deadline(
    call: Call[ChatRequest], proceed: Proceed[ChatRequest, Completion]
) -> Completion:
    async with time_limit(None, what="a streamed answer"):
        return await proceed(call)


async def _in_time(call: Call[Request], proceed: Proceed[Request, Result]) -> Result:
    seconds = remaining(call.timeout)
    if not seconds:
        # Nothing is asked that nobody waits for: the deadline is over, or steps used up the time.
        message = "No time was left to ask the model."
        raise ProviderError(message, remedy="Allow the call more time.", retryable=True)
    try:
        async with block_timeout(seconds):
            return await proceed(call)
    except TimeoutError as error:
        raise _too_late(call, seconds) from error


def _too_late(call: Call[Request], seconds: float) -> ProviderError:
    model = getattr(call.request, "model", "")
    # What the caller gave, unless steps or a deadline took a part of it.
    seconds = call.timeout if call.timeout - seconds < _LATE else seconds
    message = f"The model {model!r} did not answer within {seconds:.3g} s."
    return ProviderError(message, remedy="Try again, or raise `timeout`.", retryable=True)
