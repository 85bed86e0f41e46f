"""The response cache: answers and vectors that were paid for already, per tenant.

The tenant is no part of the keys made here, since the cache keeps tenants apart itself. A cache
that fails is a miss: it is logged, and the provider is asked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Final

from motadata.core.errors import CacheError
from motadata.core.models import Completion, CompletionChunk, Embeddings, Usage
from motadata.core.observability import get_logger
from motadata.core.protocols import Cache
from motadata.gateway._call import Call, Proceed
from motadata.gateway._requests import ChatRequest, EmbeddingRequest
from motadata.gateway._vectors import pack, unpack


COMPLETIONS: Final = "gateway-completions"
VECTORS: Final = "gateway-vectors"
_FORMAT: Final = 2
_KEEPABLE: Final = frozenset({"stop", "tool_calls"})

_NOTHING_USED: Final = Usage(0, 0, Decimal(0))

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
        if found is not None:
            call.notes.cached = "exact"
            call.notes.saved_usd = found.usage.cost_usd
            answer = replace(found, cached=True, usage=_NOTHING_USED)
            await _emit(call, answer)
            return answer
    answer = await proceed(call)
    if answer.finish_reason in _KEEPABLE:
        await _set(call.cache, {key: answer}, COMPLETIONS)
    return answer


async def cached_vectors(
    call: Call[EmbeddingRequest], proceed: Proceed[EmbeddingRequest, Embeddings]
) -> Embeddings:
    """Take known texts from the cache, embed each other text once, and keep its vector."""
    if call.cache is None or call.cache_policy == "bypass":
        return await proceed(call)
    texts = call.request.texts
    keys = {text: vector_key(call, text) for text in texts}
    known = await _get_vectors(call.cache, keys) if call.cache_policy == "use" else {}
    unknown = tuple(text for text in keys if text not in known)
    usage = Usage()
    if unknown:
        fresh = await proceed(replace(call, request=replace(call.request, texts=unknown)))
        usage = fresh.usage
        new = dict(zip(unknown, fresh.vectors, strict=True))
        known = {**known, **new}
        packed = {keys[text]: pack(vector) for text, vector in new.items()}
        await _set(call.cache, packed, VECTORS)
    return Embeddings(tuple(known[text] for text in texts), call.request.model, usage)


def completion_key(call: Call[ChatRequest]) -> str:
    """Return the SHA-256 of everything that decides the answer."""
    request = call.request
    options = request.options
    return _digest(
        {
            "format": _FORMAT,
            "model": request.model,
            "revision": call.provider.revision,
            "policy": call.policy,
            "messages": [message.to_dict() for message in request.messages],
            "temperature": request.temperature,
            "max_tokens": request.max_tokens,
            "tools": [tool.to_dict() for tool in request.tools],
            "tool_choice": options.tool_choice,
            "top_p": options.top_p,
            "stop": options.stop,
            "seed": options.seed,
            "output_schema": options.output_schema,
        }
    )


def vector_key(call: Call[EmbeddingRequest], text: str) -> str:
    """Return the SHA-256 of everything that decides the vector of one text."""
    revision = call.provider.revision
    return _digest(
        {"format": _FORMAT, "model": call.request.model, "revision": revision, "text": text}
    )


def _digest(value: Mapping[str, object]) -> str:
    # ASCII escapes keep lone surrogates, which have no UTF-8, apart from each other.
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=_plain
    )
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _plain(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else str(value)


async def _emit(call: Call[ChatRequest], answer: Completion) -> None:
    if call.emit is None:
        return
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


async def _get(cache: Cache, key: str) -> Completion | None:
    try:
        found = await cache.get(key, namespace=COMPLETIONS)
    except CacheError as error:
        _log.warning("response_cache_failed", operation="get", code=error.code)
        return None
    return found if isinstance(found, Completion) else None


async def _get_vectors(cache: Cache, keys: Mapping[str, str]) -> dict[str, tuple[float, ...]]:
    try:
        found = await cache.get_many(list(keys.values()), namespace=VECTORS)
    except CacheError as error:
        _log.warning("response_cache_failed", operation="get_many", code=error.code)
        return {}
    packed = {text: found.get(key) for text, key in keys.items()}
    return {text: unpack(data) for text, data in packed.items() if isinstance(data, bytes)}


async def _set(cache: Cache, values: Mapping[str, object], namespace: str) -> None:
    try:
        await cache.set_many(values, namespace=namespace)
    except CacheError as error:
        _log.warning("response_cache_failed", operation="set_many", code=error.code)
