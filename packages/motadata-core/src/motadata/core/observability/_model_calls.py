"""One `with` around a call of a model: its span, its duration, its tokens and what it cost."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Final, Literal

from motadata.core.models import Usage
from motadata.core.observability._conventions import MODEL_COST, MODEL_DURATION, TOKEN_USAGE
from motadata.core.observability._metrics import BoundCounter, BoundHistogram, instruments
from motadata.core.observability._operations import Operation
from motadata.core.observability._tracing import Attribute, Span, present_tenant


ModelOperation = Literal["chat", "embeddings"]

_MOST_KINDS: Final = 256
_MOST_TENANTS: Final = 1_000


@dataclass(frozen=True, slots=True)
class _Series:
    """Where the calls of a model are counted for one tenant."""

    duration: BoundHistogram
    input_tokens: BoundHistogram
    output_tokens: BoundHistogram
    cost: BoundCounter


class ModelCalls:
    """All calls of one operation of a model; made once for them."""

    __slots__ = ("_naming", "_own", "attributes", "name")

    def __init__(self, operation: ModelOperation, model: str, provider: str) -> None:
        self.name = f"{operation} {model}"
        self.attributes: dict[str, Attribute] = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": provider,
            "gen_ai.request.model": model,
        }
        self._own: dict[str | None, _Series] = {}
        self._naming = instruments.naming

    def series(self, tenant: str | None) -> _Series:
        """Return where a tenant's calls are counted."""
        known = self._own.get(tenant)
        if known is None or self._naming != instruments.naming:
            known = self._find(tenant)
        return known

    def _find(self, tenant: str | None) -> _Series:
        if self._naming != instruments.naming or len(self._own) >= _MOST_TENANTS:
            self._naming = instruments.naming
            self._own = {}
        read = {**self.attributes, "gen_ai.token.type": "input"}
        written = {**self.attributes, "gen_ai.token.type": "output"}
        found = _Series(
            MODEL_DURATION.bind(self.attributes, tenant_id=tenant),
            TOKEN_USAGE.bind(read, tenant_id=tenant),
            TOKEN_USAGE.bind(written, tenant_id=tenant),
            MODEL_COST.bind(self.attributes, tenant_id=tenant),
        )
        if tenant is not None and found.duration.is_only_of(tenant):
            self._own[tenant] = found
        return found


class ModelCall(Operation):
    """A call of a model; made by `model_call`."""

    __slots__ = ("_calls",)

    def __init__(self, calls: ModelCalls, *, tenant_id: str | None, current: bool) -> None:
        timed = Span(
            calls.name, calls.attributes, kind="client", tenant_id=tenant_id, current=current
        )
        super().__init__(timed, MODEL_DURATION, calls.attributes, tenant_id=tenant_id)
        self._calls = calls

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it; an error becomes the attribute `error.type` of span and metric."""
        if error is not None:
            super().__exit__(kind, error, traceback)
            return
        self._series().duration.record(time.perf_counter() - self._started)
        self._span.__exit__(None, None, None)

    def used(self, usage: Usage, *, finish_reason: str | None = None) -> None:
        """Note what the call cost, on the span and in the metrics."""
        series, cost = self._series(), usage.cost_usd
        if usage.input_tokens:
            series.input_tokens.record(usage.input_tokens)
        if usage.output_tokens:
            series.output_tokens.record(usage.output_tokens)
        if cost is not None:
            series.cost.add(float(cost))
        if self._span.otel.is_recording():
            self._describe(usage, finish_reason)

    def _series(self) -> _Series:
        return self._calls.series(self._tenant or present_tenant())

    def _describe(self, usage: Usage, finish_reason: str | None) -> None:
        self.set_attribute("gen_ai.usage.input_tokens", usage.input_tokens)
        self.set_attribute("gen_ai.usage.output_tokens", usage.output_tokens)
        if usage.cost_usd is not None:
            self.set_attribute("motadata.gen_ai.cost_usd", float(usage.cost_usd))
        if finish_reason is not None:
            self.set_attribute("gen_ai.response.finish_reasons", finish_reason)


def model_call(
    operation: ModelOperation,
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
    return ModelCall(_calls_of(operation, model, provider), tenant_id=tenant_id, current=current)


@lru_cache(_MOST_KINDS)
def _calls_of(operation: ModelOperation, model: str, provider: str) -> ModelCalls:
    return ModelCalls(operation, model, provider)
