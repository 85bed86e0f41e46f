"""The response cache: answers and vectors that were paid for already, per tenant.

The tenant is no part of the keys made here, since the cache keeps tenants apart itself. A cache
that fails is a miss: it is logged, and the provider is asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Final

from motadata.core.errors import CacheError, DeadlineExceededError, SDKError
from motadata.core.models import Completion, CompletionChunk, Embeddings, Usage
from motadata.core.observability import count_lookups, get_logger
from motadata.core.protocols import Cache
from motadata.core.resilience import time_limit
from motadata.gateway._call import Call, Proceed
from motadata.gateway._digest import completion_key, vector_key
from motadata.gateway._requests import ChatRequest, EmbeddingRequest
from motadata.gateway._usages import (
    NOTHING_PAID,
    saving,
    shares_of,
    with_price,
    without_price,
)
from motadata.gateway._vectors import pack, unpack


COMPLETIONS: Final = "gateway-completions"
VECTORS: Final = "gateway-vectors"
KEEPABLE: Final = frozenset({"stop", "tool_calls"})

_log = get_logger("gateway")


async def cached_completion(
    call: Call[ChatRequest], proceed: Proceed[ChatRequest, Completion]
) -> Completion:
    """Answer from the cache, or keep the answer; one that was cut off is not kept."""
    if call.cache is None or call.cache_policy == "bypass":
        return await proceed(call)
    key = completion_key(call)
    if call.cache_policy == "use":
        found = await _get(call.cache, key)
        count_lookups(hits=int(found is not None), misses=int(found is None), tier="responses")
        if found is not None:
            call.notes.cached = "exact"
            call.notes.saved_usd = found.usage.cost_usd
            return await replayed(
                call,
                replace(found, cached=True, usage=NOTHING_PAID, call_id=call.notes.call_id),
            )
    answer = await proceed(call)
    # What was shared is kept by the one who paid; what came from a cache is kept there; what
    # another model said is no answer of the one that the key names.
    elsewhere = answer.shared or answer.cached or answer.fallback_from is not None
    if answer.finish_reason in KEEPABLE and not elsewhere:
        await _kept(call.cache.set(key, answer, namespace=COMPLETIONS))
    return answer


async def cached_vectors(
    call: Call[EmbeddingRequest], proceed: Proceed[EmbeddingRequest, Embeddings]
) -> Embeddings:
    """Take known texts from the cache, embed each other text once, and keep its vector.

    What a text cost is kept with its vector, and noted as saved whenever it is not paid again.
    """
    if call.cache is None or call.cache_policy == "bypass":
        return await proceed(call)
    texts = call.request.texts
    keys = {text: vector_key(call, text) for text in texts}
    known, paid = await _get_vectors(call.cache, keys) if call.cache_policy == "use" else ({}, {})
    unknown = tuple(text for text in keys if text not in known)
    if call.cache_policy == "use":
        count_lookups(hits=len(known), misses=len(unknown), tier="vectors")
    usage = Usage()
    if not unknown:
        call.notes.cached = "exact"
    else:
        try:
            fresh = await proceed(
                replace(call, request=EmbeddingRequest(call.request.model, unknown))
            )
        except SDKError:
            if call.notes.spent is not None:  # those that share the failure leave it to the payer
                spent = call.notes.spent
                await _keep_vectors(call, call.cache, keys, call.notes.kept, spent)
            raise
        usage = fresh.usage
        new = dict(zip(unknown, fresh.vectors, strict=True))
        known = {**known, **new}
        if not call.notes.shared:  # who paid keeps them, with what they cost
            # All that was charged, with what failed beforehand.
            await _keep_vectors(call, call.cache, keys, new, call.notes.spent or usage)
    # Behind the call: one that was shared has noted its own saving by now.
    call.notes.saved_usd = saving(call.notes.saved_usd, paid.values())
    return Embeddings(tuple(known[text] for text in texts), call.request.model, usage)


async def _keep_vectors(
    call: Call[EmbeddingRequest],
    cache: Cache,
    keys: Mapping[str, str],
    vectors: Mapping[str, tuple[float, ...]],
    spent: Usage,
) -> None:
    """Keep vectors and their prices, unless another model than the keys name made them."""
    if call.notes.fallback_from is None and vectors:
        prices = shares_of(spent.cost_usd, tuple(vectors))
        packed = {
            keys[text]: with_price(pack(vector), prices.get(text))
            for text, vector in vectors.items()
            if text in keys
        }
        await _kept(cache.set_many(packed, namespace=VECTORS))


async def replayed(call: Call[ChatRequest], answer: Completion) -> Completion:
    """Return a known answer; to a caller that streams, it is said in one piece."""
    if call.emit is not None:
        if answer.text:
            await call.emit(CompletionChunk(answer.text))
        last = CompletionChunk(
            "",
            answer.finish_reason,
            answer.tool_calls,
            answer.usage,
            model=answer.model,
            call_id=call.notes.call_id,
        )
        await call.emit(last)
    return answer


async def _get(cache: Cache, key: str) -> Completion | None:
    try:
        found = await cache.get(key, namespace=COMPLETIONS)
    except CacheError as error:
        _log.warning("response_cache_failed", operation="get", code=error.code)
        return None
    return found if isinstance(found, Completion) else None


async def _get_vectors(
    cache: Cache, keys: Mapping[str, str]
) -> tuple[dict[str, tuple[float, ...]], dict[str, Decimal]]:
    """Return the vectors that are known, and what was paid for those whose price is known."""
    try:
        found = await cache.get_many(list(keys.values()), namespace=VECTORS)
    except CacheError as error:
        _log.warning("response_cache_failed", operation="get_many", code=error.code)
        return {}, {}
    vectors: dict[str, tuple[float, ...]] = {}
    paid: dict[str, Decimal] = {}
    for text, key in keys.items():
        data = found.get(key)
        kept = without_price(data) if isinstance(data, bytes) else None
        if kept is not None:
            vectors[text] = unpack(kept[0])
            if kept[1] is not None:
                paid[text] = kept[1]
    return vectors, paid


async def _kept(writing: Awaitable[None]) -> None:
    try:
        async with time_limit(None, what="the response cache"):
            await writing
    except (CacheError, DeadlineExceededError) as error:
        # With no time left to keep it, an answer that is paid for goes out all the same.
        _log.warning("response_cache_failed", operation="set", code=error.code)
