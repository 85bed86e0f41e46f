"""An answer given before to a question that means the same, within one tenant.

Similarity is about words; what must not differ at all is kept out of it. The numbers, codes and
negations of a question, the conversation before it, the model and its parameters make up a context,
and only questions of equal context are compared: "reset the token of user 4711" is never answered
by what was said about user 4712.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from motadata.core.errors import (
    CodecError,
    ConfigurationError,
    DatabaseError,
    DeadlineExceededError,
    SDKError,
)
from motadata.core.identifiers import new_id
from motadata.core.models import Completion, Embeddings
from motadata.core.observability import get_logger
from motadata.core.protocols import Codec, Database
from motadata.core.resilience import deadline_scope, time_limit
from motadata.gateway._call import Call, Proceed
from motadata.gateway._digest import completion_key
from motadata.gateway._requests import ChatRequest, EmbeddingRequest
from motadata.gateway._response_cache import replayed
from motadata.gateway._usages import NOTHING_PAID


_SPECIFIC: Final = re.compile(r"\S*[\d@_/\\#]\S*|\b[A-Z]{2,}\b|\"[^\"]*\"|'[^']*'|`[^`]*`")
_NEGATION: Final = re.compile(
    r"\b(?:no|not|never|without|except|cannot|un\w+|dis\w+|\w+n't)\b", re.IGNORECASE
)

_FIND: Final = """
select answer, 1 - (embedding <=> $3) as similarity
from motadata.semantic_answer
where tenant_id = $1 and context = $2 and expires_at > now()
order by embedding <=> $3
limit 1
"""
_KEEP: Final = """
insert into motadata.semantic_answer
  (tenant_id, context, answer_id, embedding, answer, expires_at)
values ($1, $2, $3, $4, $5, now() + make_interval(secs => $6))
"""
_TRIM: Final = """
delete from motadata.semantic_answer
where tenant_id = $1 and answer_id in (
  select answer_id from motadata.semantic_answer
  where tenant_id = $1 and (expires_at <= now() or created_at < (
    select created_at from motadata.semantic_answer
    where tenant_id = $1 order by created_at desc offset $2 limit 1
  ))
  for update skip locked
)
"""
# Answers that are kept at the same time would else wait for each other's old rows, in any order.

_log = get_logger("gateway")


class Embedder(Protocol):
    """Turns texts into vectors; a gateway does."""

    async def embed(
        self, texts: Sequence[str], *, model: str | None = None, tenant_id: str | None = None
    ) -> Embeddings:
        """Return one unit-length vector a text."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SemanticPolicy:
    """When two questions mean the same.

    Attributes:
        threshold: Cosine from which on they do, above 0.5 to 1.
        ttl: Seconds that an answer is kept.
        most_answers: Answers kept for a tenant; the oldest go first.
        most_temperature: A call that asks for more variety than this is not answered from here.
        model: Embeds the questions; None means the embedder's default.
        timeout: Seconds for the search, and for keeping an answer; what takes longer is a miss.

    Raises:
        ConfigurationError: A number is out of range.
    """

    threshold: float = 0.95
    ttl: float = 86_400.0
    most_answers: int = 10_000
    most_temperature: float = 0.5
    model: str | None = None
    timeout: float = 2.0

    def __post_init__(self) -> None:
        """Refuse numbers that cannot work."""
        if not 0.5 < self.threshold <= 1:  # noqa: PLR2004 - said in the message
            message = f"threshold={self.threshold!r} is out of range."
            raise ConfigurationError(message, remedy="Pass more than 0.5, at most 1.")
        if self.ttl <= 0 or self.most_answers < 1 or not self.timeout > 0:
            message = (
                f"ttl={self.ttl!r}, most_answers={self.most_answers!r} and "
                f"timeout={self.timeout!r} must be positive."
            )
            raise ConfigurationError(message, remedy="Pass positive numbers, or leave them out.")


class SemanticCache:
    """Answers a question from what the tenant was answered before to one that means the same.

    It is off unless it is a part of a gateway's `Governance`. Calls with tools, with passages, or
    with much temperature pass it by, so do calls with `cache="bypass"`. A database or embedder that
    fails is a miss: it is logged, and the model is asked.

    Args:
        database: Where answers are kept; `motadata.gateway.migrations` has run there.
        embedder: Embeds the questions; often a gateway of its own with a small model.
        policy: None means the defaults.
    """

    def __init__(
        self, database: Database, embedder: Embedder, policy: SemanticPolicy | None = None
    ) -> None:
        self._database = database
        self._embedder = embedder
        self._policy = policy or SemanticPolicy()
        # Here, since most gateways have no such cache, and the codecs are a tenth of what a
        # gateway takes to import.
        from motadata.core.codec import MessagePackCodec

        self._codec: Codec = MessagePackCodec()

    async def chat(
        self, call: Call[ChatRequest], proceed: Proceed[ChatRequest, Completion]
    ) -> Completion:
        """Answer from a similar question, or ask on and keep the answer.

        Raises:
            SDKError: What the call raised; never an error of this cache.
        """
        if not self._fits(call):
            return await proceed(call)
        with deadline_scope(self._policy.timeout):
            sought = await self._sought(call)
        if sought is None:
            return await proceed(call)
        context, vector, found = sought
        if found is not None:
            call.notes.cached, call.notes.saved_usd = "semantic", found.usage.cost_usd
            return await replayed(call, replace(found, cached=True, usage=NOTHING_PAID))
        answer = await proceed(call)
        # What was shared is kept by the one who paid for it.
        elsewhere = answer.shared or answer.cached or answer.fallback_from is not None
        if answer.finish_reason == "stop" and answer.text and not elsewhere:
            await self._keep(call, context, vector, answer)
        return answer

    async def embedding(
        self, call: Call[EmbeddingRequest], proceed: Proceed[EmbeddingRequest, Embeddings]
    ) -> Embeddings:
        """Pass texts to embed on as they are."""
        return await proceed(call)

    def _fits(self, call: Call[ChatRequest]) -> bool:
        request = call.request
        last = request.messages[-1]
        return (
            call.cache_policy != "bypass"
            and not request.tools
            and last.role == "user"
            and bool(last.content.strip())
            and not any(message.passages for message in request.messages)
            and (request.temperature or 0.0) <= self._policy.most_temperature
        )

    async def _sought(
        self, call: Call[ChatRequest]
    ) -> tuple[str, tuple[float, ...], Completion | None] | None:
        """Return a question's context, its vector, and an answer to one that means the same."""
        embedded = await self._embedded(call.request.messages[-1].content, call)
        if embedded is None:
            return None
        vector, context = embedded.vectors[0], context_of(call, embedded.model)
        if call.cache_policy != "use":
            return context, vector, None
        return context, vector, await self._found(call, context, vector)

    async def _embedded(self, question: str, call: Call[ChatRequest]) -> Embeddings | None:
        try:
            async with time_limit(None, what="the embedding of a question"):
                return await self._embedder.embed(
                    [question], model=self._policy.model, tenant_id=call.tenant_id
                )
        except SDKError as error:
            _log.warning("semantic_cache_failed", operation="embed", code=error.code)
            return None

    async def _found(
        self, call: Call[ChatRequest], context: str, vector: tuple[float, ...]
    ) -> Completion | None:
        try:
            rows = await self._database.execute_query(
                _FIND, call.tenant_id, context, vector, tenant_id=call.tenant_id
            )
            if not rows or float(str(rows[0]["similarity"])) < self._policy.threshold:
                return None
            answer = self._codec.decode(bytes(rows[0]["answer"]))  # type: ignore[call-overload]  # a bytea column
        except (DatabaseError, DeadlineExceededError, CodecError) as error:
            _log.warning("semantic_cache_failed", operation="find", code=error.code)
            return None
        return answer if isinstance(answer, Completion) else None

    async def _keep(
        self, call: Call[ChatRequest], context: str, vector: tuple[float, ...], answer: Completion
    ) -> None:
        policy, tenant = self._policy, call.tenant_id
        try:
            with deadline_scope(policy.timeout):
                async with self._database.transaction(tenant) as transaction:
                    encoded = self._codec.encode(answer)
                    await transaction.execute(
                        _KEEP, tenant, context, new_id(), vector, encoded, policy.ttl
                    )
                    await transaction.execute(_TRIM, tenant, policy.most_answers - 1)
        except (DatabaseError, DeadlineExceededError, CodecError) as error:
            _log.warning("semantic_cache_failed", operation="keep", code=error.code)


def context_of(call: Call[ChatRequest], embedding_model: str) -> str:
    """Return the SHA-256 of what must be equal before two questions are compared at all."""
    request = call.request
    last = request.messages[-1]
    emptied = replace(request, messages=(*request.messages[:-1], replace(last, content="")))
    # Notes of its own: the call's keep the digest of the request as it is.
    rest = completion_key(replace(call, request=emptied, notes=type(call.notes)()))
    specific = sorted(_SPECIFIC.findall(last.content))
    negations = sorted(word.casefold() for word in _NEGATION.findall(last.content))
    parts = repr((rest, embedding_model, specific, negations))
    return hashlib.sha256(parts.encode("utf-8", "backslashreplace")).hexdigest()
