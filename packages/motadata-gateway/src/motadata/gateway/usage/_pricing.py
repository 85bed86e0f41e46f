"""The part of a gateway that knows what providers charge."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable
from dataclasses import dataclass, field
from decimal import Decimal
from types import TracebackType
from typing import Final, Self
from weakref import WeakValueDictionary

from motadata.core.clock import SYSTEM_CLOCK, Clock
from motadata.core.errors import ConfigurationError, DatabaseError, SDKError
from motadata.core.errors import ConnectionError as DatabaseConnectionError
from motadata.core.models import Completion, Embeddings, Usage
from motadata.core.observability import counter, get_logger
from motadata.core.resilience import remaining
from motadata.gateway._call import Call, CallNotes, Price, Proceed, Request, Result
from motadata.gateway._requests import ChatRequest, EmbeddingRequest
from motadata.gateway.usage._overrides import PriceOverrides
from motadata.gateway.usage._prices import PriceTable, Tariff, packaged_prices


_KEPT: Final = 60.0
_KEPT_AFTER_FAILURE: Final = 10.0
"""Seconds for which prices of a tenant that cannot be understood are not read again."""
_MOST_TENANTS: Final = 10_000
_LONGEST_READ: Final = 1.0
_PAUSE: Final = 0.5
"""Seconds after a failure of the database in which nobody asks it for prices."""
_OUTAGE: Final = 5.0
"""Seconds after a failure in which one call at a time asks; later, each does so again."""
_STATED: Final = "stated"
UNREAD: Final = "own-unread"
"""Marks the version of prices that were used while the tenant's own were not known."""

_log = get_logger("gateway")
_unpriced = counter(
    "motadata.gateway.unpriced_calls",
    unit="{call}",
    description="Answers of models that no price is known for.",
)


@dataclass(frozen=True, slots=True)
class _Prices:
    """What a tenant's calls cost; a `Price`, of which budgets look at `unread`.

    Attributes:
        pricing: Knows the listed prices.
        own: The tenant's own; None when it has none, or they are not known.
        unread: Why they are not known; None when they are, if only from before an outage.
    """

    pricing: Pricing
    own: PriceTable | None = None
    unread: SDKError | None = None

    def __call__(self, notes: CallNotes, usage: Usage) -> Usage:
        """Add the cost to a usage, and note the version of the prices."""
        priced = self.pricing._priced(self.own, notes, usage)  # noqa: SLF001 - a part of it
        if self.unread is not None:
            version = notes.price_version
            notes.price_version = f"{version}+{UNREAD}" if version else UNREAD
        return priced


@dataclass(frozen=True, slots=True)
class _Own:
    """A tenant's own prices as they were read last, and until when they count."""

    price: _Prices
    until: float


@dataclass(slots=True)
class _Failure:
    """When the database failed last, and whether a call is finding out if that is over."""

    at: float
    probing: bool = False


@dataclass(slots=True, weakref_slot=True)
class _Reading:
    """Held by the one who reads a tenant's prices; the others wait for it."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Pricing:
    """Adds to each answer what the provider charges for it.

    A tenant's own price counts first, then what the provider states itself, then the table. A model
    without any price costs None, and is counted as `motadata.gateway.unpriced_calls`.

    Own prices that cannot be read within a second are logged, and those known before count on. When
    none were known before, the others count, and `price_version` ends in `own-unread`: what such a
    call is said to cost may not be what the tenant pays. While the database is away, one call at a
    time asks it for prices, half a second after the last that did.

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
        self._listed = _Prices(self)
        self._own: OrderedDict[str, _Own] = OrderedDict()
        self._reading: WeakValueDictionary[str, _Reading] = WeakValueDictionary()
        self._failure: _Failure | None = None

    def chat(
        self, call: Call[ChatRequest], proceed: Proceed[ChatRequest, Completion]
    ) -> Awaitable[Completion]:
        """Price a conversation.

        Raises:
            SDKError: What the call raised.
        """
        return self._priced_call(call, proceed)

    def embedding(
        self, call: Call[EmbeddingRequest], proceed: Proceed[EmbeddingRequest, Embeddings]
    ) -> Awaitable[Embeddings]:
        """Price vectors.

        Raises:
            SDKError: What the call raised.
        """
        return self._priced_call(call, proceed)

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

    def _priced_call(
        self, call: Call[Request], proceed: Proceed[Request, Result]
    ) -> Awaitable[Result]:
        if self._overrides is None:
            priced = call.copied()
            priced.price = self._listed
            return proceed(priced)
        return self._with_own(self._overrides, call, proceed)

    async def _with_own(
        self, overrides: PriceOverrides, call: Call[Request], proceed: Proceed[Request, Result]
    ) -> Result:
        tenant, priced = str(call.tenant_id), call.copied()
        own = self._own.get(tenant)
        if own is None or self._clock.now() >= own.until:
            priced.price = await self._read(overrides, tenant)
        else:
            priced.price = own.price
        return await proceed(priced)

    async def _read(self, overrides: PriceOverrides, tenant: str) -> Price:
        reading = self._reading.setdefault(tenant, _Reading())
        async with reading.lock:
            known = self._own.get(tenant)
            if known is not None and self._clock.now() < known.until:
                return known.price
            failure = self._present_failure()
            if failure is not None:
                if failure.probing or self._clock.now() < failure.at + _PAUSE:
                    return self._without(_away(tenant), known)
                failure.probing = True
            try:
                return await self._asked(overrides, tenant, known)
            finally:
                if failure is not None:
                    failure.probing = False

    def _present_failure(self) -> _Failure | None:
        """Return the database's failure if it may go on, so that not every call tries it."""
        failure = self._failure
        if failure is None or failure.probing or self._clock.now() < failure.at + _OUTAGE:
            return failure
        self._failure = None
        return None

    async def _asked(self, overrides: PriceOverrides, tenant: str, known: _Own | None) -> Price:
        kept, price = _KEPT, self._listed
        try:
            async with asyncio.timeout(_LONGEST_READ):
                own = await overrides.table(tenant_id=tenant, timeout=_LONGEST_READ)
            if own is not None:
                price = _Prices(self, own)
            self._failure = None
        except (SDKError, TimeoutError) as error:
            if remaining() == 0.0:
                raise  # it says nothing about the prices that the caller has no time left
            code = getattr(error, "code", "timeout")
            _log.warning("own_prices_not_read", tenant_id=tenant, code=code)
            if not isinstance(error, ConfigurationError):
                self._failure = _Failure(self._clock.now())
                return self._without(_away(tenant, error), known)
            price, kept = self._without(_not_understood(tenant, error), known), _KEPT_AFTER_FAILURE
        self._own[tenant] = _Own(price, self._clock.now() + kept)
        self._own.move_to_end(tenant)
        if len(self._own) > _MOST_TENANTS:
            self._own.popitem(last=False)
        return price

    def _without(self, error: SDKError, known: _Own | None) -> _Prices:
        return _Prices(self, unread=error) if known is None else known.price

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


def _away(tenant: str, cause: BaseException | None = None) -> DatabaseError:
    # Each tenant's own: what another one's says is none of its business.
    message = f"The prices of the tenant {tenant!r} could not be read."
    error = DatabaseConnectionError(message, remedy="Try again.", tenant_id=tenant)
    error.__cause__ = cause
    return error


def _not_understood(tenant: str, cause: ConfigurationError) -> ConfigurationError:
    message = f"The prices of the tenant {tenant!r} are not understood."
    error = ConfigurationError(message, remedy="Put them anew.", tenant_id=tenant)
    error.__cause__ = cause
    return error


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
