"""The part of a gateway that knows what providers charge."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from types import TracebackType
from typing import Final, Self
from weakref import WeakValueDictionary

from motadata.core.clock import SYSTEM_CLOCK, Clock
from motadata.core.errors import SDKError
from motadata.core.models import Completion, Embeddings, Usage
from motadata.core.observability import counter, get_logger
from motadata.core.resilience import remaining
from motadata.gateway._call import Call, CallNotes, Price, Proceed, Request
from motadata.gateway._requests import ChatRequest, EmbeddingRequest
from motadata.gateway.usage._overrides import PriceOverrides
from motadata.gateway.usage._prices import PriceTable, Tariff, packaged_prices


_KEPT: Final = 60.0
_KEPT_AFTER_FAILURE: Final = 10.0
_MOST_TENANTS: Final = 10_000
_LONGEST_READ: Final = 1.0
_STATED: Final = "stated"

_log = get_logger("gateway")
_unpriced = counter(
    "motadata.gateway.unpriced_calls",
    unit="{call}",
    description="Answers of models that no price is known for.",
)


@dataclass(frozen=True, slots=True)
class _Own:
    """A tenant's own prices as they were read last, and until when they count."""

    price: Price
    until: float


@dataclass(slots=True, weakref_slot=True)
class _Reading:
    """Held by the one who reads a tenant's prices; the others wait for it."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Pricing:
    """Adds to each answer what the provider charges for it.

    A tenant's own price counts first, then what the provider states itself, then the table. A model
    without any price costs None, and is counted as `motadata.gateway.unpriced_calls`. Own prices
    that cannot be read within a second are logged, and those known before count on.

    Args:
        table: None means the prices that come with the package.
        overrides: Where tenants' own prices are kept; None means that they have none.
        clock: Measures how long they were not looked up.
    """

    def __init__(
        self,
        table: PriceTable | None = None,
        *,
        overrides: PriceOverrides | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._table = table
        self._overrides = overrides
        self._clock = clock
        self._listed: Price = partial(self._priced, None)
        self._own: OrderedDict[str, _Own] = OrderedDict()
        self._reading: WeakValueDictionary[str, _Reading] = WeakValueDictionary()

    async def chat(
        self, call: Call[ChatRequest], proceed: Proceed[ChatRequest, Completion]
    ) -> Completion:
        """Price a conversation.

        Raises:
            SDKError: What the call raised.
        """
        return await proceed(await self._with_prices(call))

    async def embedding(
        self, call: Call[EmbeddingRequest], proceed: Proceed[EmbeddingRequest, Embeddings]
    ) -> Embeddings:
        """Price vectors.

        Raises:
            SDKError: What the call raised.
        """
        return await proceed(await self._with_prices(call))

    async def __aenter__(self) -> Self:
        """Read the table, off the event loop."""
        if self._table is None:
            self._table = await asyncio.to_thread(packaged_prices)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Keep the prices: an answer may still be under way."""

    async def _with_prices(self, call: Call[Request]) -> Call[Request]:
        priced = call.copied()
        if self._overrides is None:
            priced.price = self._listed
            return priced
        tenant = str(call.tenant_id)
        own = self._own.get(tenant)
        if own is None or self._clock.now() >= own.until:
            priced.price = await self._read(self._overrides, tenant)
        else:
            priced.price = own.price
        return priced

    async def _read(self, overrides: PriceOverrides, tenant: str) -> Price:
        reading = self._reading.setdefault(tenant, _Reading())
        async with reading.lock:
            known = self._own.get(tenant)
            if known is not None and self._clock.now() < known.until:
                return known.price
            price = self._listed if known is None else known.price
            kept = _KEPT
            try:
                async with asyncio.timeout(_LONGEST_READ):
                    own = await overrides.table(tenant_id=tenant, timeout=_LONGEST_READ)
                price = self._listed if own is None else partial(self._priced, own)
            except (SDKError, TimeoutError) as error:
                if remaining() == 0.0:
                    raise  # it says nothing about the prices that the caller has no time left
                kept = _KEPT_AFTER_FAILURE
                code = getattr(error, "code", "timeout")
                _log.warning("own_prices_not_read", tenant_id=tenant, code=code)
            self._own[tenant] = _Own(price, self._clock.now() + kept)
            self._own.move_to_end(tenant)
            if len(self._own) > _MOST_TENANTS:
                self._own.popitem(last=False)
            return price

    def _priced(self, own: PriceTable | None, notes: CallNotes, usage: Usage) -> Usage:
        tariff: Tariff | None = None
        if own is not None and (tariff := own.find(notes.model)) is not None:
            notes.price_version = own.version
        elif usage.cost_usd is not None:
            notes.price_version = _STATED
            return usage
        else:
            table = self._table
            if table is None:
                table = self._table = packaged_prices()
            tariff = table.find(notes.model)
            notes.price_version = table.version if tariff is not None else ""
        if tariff is None:
            _unpriced.add(1)
            return usage
        return _with_cost(usage, tariff.cost(usage))


def _with_cost(usage: Usage, cost: Decimal) -> Usage:
    # Not `replace`: this is on the way of every call, and three times as fast.
    return Usage(
        usage.input_tokens,
        usage.output_tokens,
        cost,
        usage.cached_input_tokens,
        usage.cache_write_tokens,
        usage.reasoning_tokens,
        usage.web_searches,
        usage.long_cache_write_tokens,
    )
