"""One `with` around a call that leaves the process: its span, its duration, its error.

    with model_call("chat", model="gpt-4o", provider="openai", tenant_id=tenant) as call:
        answer = await …
        call.used(answer.usage)

The other rooms of the SDK call these, so that names and attributes are decided in one place.
"""

from __future__ import annotations

import time
from asyncio import CancelledError
from collections.abc import Callable
from types import TracebackType
from typing import Final, Literal, Self, TypeVar

from motadata.core.errors import SDKError
from motadata.core.models import Usage
from motadata.core.observability._conventions import (
    CACHE_LOOKUPS,
    DATABASE_DURATION,
    MODEL_COST,
    MODEL_DURATION,
    REQUEST_DURATION,
    TOKEN_USAGE,
)
from motadata.core.observability._metrics import Histogram
from motadata.core.observability._tracing import Attribute, Span, span
from motadata.core.tenancy import TenantId


Owner = TypeVar("Owner")

ERROR_TYPE: Final = "error.type"
_LONGEST_START: Final = 40
_VERBS: Final = frozenset(
    (
        *("CALL", "COPY", "DELETE", "EXPLAIN", "INSERT", "LOCK", "MERGE", "NOTIFY", "RELEASE"),
        *("SAVEPOINT", "SELECT", "SET", "TRUNCATE", "UPDATE", "VALUES", "WITH"),
    )
)
_METHODS: Final = frozenset(("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"))


class Operation:
    """A span whose duration is a metric too; entered once."""

    __slots__ = ("_attributes", "_duration", "_span", "_started", "_tenant")

    def __init__(
        self,
        span: Span,
        duration: Histogram,
        attributes: dict[str, Attribute],
        *,
        tenant_id: str | None,
    ) -> None:
        self._span = span
        self._duration = duration
        self._attributes = attributes
        # Now, since at the end an error would hide the operation's own.
        self._tenant = None if tenant_id is None else TenantId(tenant_id)
        self._started = 0.0

    def __enter__(self) -> Self:
        """Start it."""
        self._span.__enter__()
        self._started = time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it; an error becomes the attribute `error.type` of span and metric."""
        seconds = time.perf_counter() - self._started
        attributes = self._attributes
        if error is not None:
            attributes = {**attributes, ERROR_TYPE: type_of(error)}
        # First, as the span knows the tenant of whatever it surrounds.
        self._duration.record(seconds, attributes, tenant_id=self._tenant)
        self._span.__exit__(kind, error, traceback)

    @property
    def trace_id(self) -> str:
        """The trace that it belongs to, 32 hexadecimal digits."""
        return self._span.trace_id

    def set_attribute(self, name: str, value: Attribute) -> None:
        """Note a fact on the span."""
        self._span.set_attribute(name, value)


class ModelCall(Operation):
    """A call of a model; made by `model_call`."""

    __slots__ = ()

    def used(self, usage: Usage, *, finish_reason: str | None = None) -> None:
        """Note what the call cost, on the span and in the metrics."""
        self._count(usage.input_tokens, "input")
        self._count(usage.output_tokens, "output")
        if usage.cost_usd is not None:
            cost = float(usage.cost_usd)
            self.set_attribute("motadata.gen_ai.cost_usd", cost)
            MODEL_COST.add(cost, self._attributes, tenant_id=self._tenant)
        if finish_reason is not None:
            self.set_attribute("gen_ai.response.finish_reasons", finish_reason)

    def _count(self, tokens: int, kind: Literal["input", "output"]) -> None:
        self.set_attribute(f"gen_ai.usage.{kind}_tokens", tokens)
        if tokens:
            attributes = {**self._attributes, "gen_ai.token.type": kind}
            TOKEN_USAGE.record(tokens, attributes, tenant_id=self._tenant)


def model_call(
    operation: Literal["chat", "embeddings"],
    *,
    model: str,
    provider: str,
    tenant_id: str | None = None,
    current: bool = True,
) -> ModelCall:
    """Time a call of a model, after the GenAI conventions.

    Args:
        operation: What is asked of it.
        model: As the caller names it.
        provider: Who serves it.
        tenant_id: Whom it is for; None means the tenant of the scope.
        current: As for `span`.
    """
    attributes: dict[str, Attribute] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": model,
    }
    timed = span(
        f"{operation} {model}", attributes, kind="client", tenant_id=tenant_id, current=current
    )
    return ModelCall(timed, MODEL_DURATION, attributes, tenant_id=tenant_id)


def database_call(
    operation: str,
    *,
    collection: str | None = None,
    system: str = "postgresql",
    tenant_id: str | None = None,
) -> Operation:
    """Time a statement or a transaction, after the database conventions.

    Args:
        operation: Its verb, such as `SELECT` or `transaction`; never the statement's text.
        collection: The table, where there is one.
        system: As the conventions call the server.
        tenant_id: Whom it is for; None means the tenant of the scope.
    """
    attributes: dict[str, Attribute] = {"db.system.name": system, "db.operation.name": operation}
    if collection is not None:
        attributes["db.collection.name"] = collection
    name = operation if collection is None else f"{operation} {collection}"
    timed = span(name, attributes, kind="client", tenant_id=tenant_id)
    return Operation(timed, DATABASE_DURATION, attributes, tenant_id=tenant_id)


def statement_call(sql: str, *, tenant_id: str | None = None) -> Operation:
    """Time a statement; of its text only the first word is looked at, and shown if it is a verb.

    Args:
        sql: The statement.
        tenant_id: Whom it is for; None means the tenant of the scope.
    """
    verb = sql[:_LONGEST_START].lstrip().partition(" ")[0].partition("\n")[0].upper()
    return database_call(verb if verb in _VERBS else "statement", tenant_id=tenant_id)


def count_lookups(
    *, hits: int = 0, misses: int = 0, tier: str = "memory", tenant_id: str | None = None
) -> None:
    """Count keys that were looked up in a cache, by whether they were there.

    Args:
        hits: Those that were there.
        misses: Those that were not.
        tier: Which cache, such as `memory`, `redis` or `responses`.
        tenant_id: Whose they are; None means the tenant of the scope.
    """
    if hits:
        CACHE_LOOKUPS.add(hits, _lookup("hit", tier), tenant_id=tenant_id)
    if misses:
        CACHE_LOOKUPS.add(misses, _lookup("miss", tier), tenant_id=tenant_id)


def watch_lookups(cache: Owner, read: Callable[[Owner], tuple[int, int]], *, tier: str) -> None:
    """Count the lookups of a cache that counts them itself, over all tenants.

    For caches that answer in less time than counting per tenant takes.

    Args:
        cache: It is watched for as long as it lives.
        read: Returns its hits and its misses; called in a collector's thread.
        tier: As for `count_lookups`.
    """
    CACHE_LOOKUPS.watch(cache, lambda one: read(one)[0], _lookup("hit", tier))
    CACHE_LOOKUPS.watch(cache, lambda one: read(one)[1], _lookup("miss", tier))


def record_request(
    *, method: str, route: str, status: int, seconds: float, tenant_id: str | None = None
) -> None:
    """Note how long a request to the HTTP API took, after the HTTP conventions.

    Args:
        method: The request's.
        route: The pattern of its path, free of ids.
        status: The response's; 0 when there was none.
        seconds: Until its last byte.
        tenant_id: Whose it was, when that was known.
    """
    attributes: dict[str, Attribute] = {
        "http.request.method": method if method in _METHODS else "_OTHER",
        "http.route": route,
        "http.response.status_code": status,
    }
    REQUEST_DURATION.record(seconds, attributes, tenant_id=tenant_id)


def _lookup(result: str, tier: str) -> dict[str, Attribute]:
    return {"motadata.cache.result": result, "motadata.cache.tier": tier}


def type_of(error: BaseException) -> str:
    """Return what spans and metrics call an error."""
    if isinstance(error, CancelledError):
        return "cancelled"
    return error.code if isinstance(error, SDKError) else type(error).__qualname__
