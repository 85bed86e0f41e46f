"""What is known about how models and providers fare: who fails, who is busy, who is fast.

Beside the breakers by ratio, which instances may share, each instance watches for failures in a
row: they tell within a few calls that something is down, however well it fared before. A tenant's
row closes a model for that tenant alone. A provider is down for everybody only when several tenants
fail there in a row and nobody succeeds, so that one tenant's broken account harms no other.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from motadata.core.clock import Clock
from motadata.core.resilience import BreakerPolicy, CircuitBreaker
from motadata.core.tenancy import TenantId


_IN_A_ROW: Final = 8
"""Failures in a row after which a model is left alone by a tenant, or a provider by all."""
_A_TENANT: Final = 4
"""How many failures of one tenant count at most against a provider."""
_DEMOTED_AT: Final = 2
_FIRST_REST: Final = 0.5
_LONGEST_REST: Final = 15.0
_LONGEST_WAIT: Final = 60.0
"""Seconds; a provider that asks for more is asked again nevertheless."""
_MOST: Final = 20_000
_MOST_MODELS: Final = 1_000
_WEIGHT_OF_NEW: Final = 0.2
_ONE_FAILURE: Final = BreakerPolicy(
    minimum_calls=1, failure_ratio=1.0, pause=1.0, longest_pause=30.0
)

Admission = tuple[CircuitBreaker, int]


@dataclass(slots=True)
class _Row:
    """Failures in a row of one tenant with one model.

    Attributes:
        failures: How many.
        rests: How often in a row others were asked first; each time is twice as long.
        rested_at: When the last of these times began.
        well_at: When an answer came last, if there was a failure before.
        rests_until: Until when others are asked first; the reading of the clock.
        waits_until: Until when its provider asked not to be asked.
        breaker: Made when it opens for the first time.
    """

    failures: int = 0
    rests: int = 0
    rested_at: float = float("-inf")
    well_at: float = float("-inf")
    rests_until: float = 0.0
    waits_until: float = 0.0
    breaker: CircuitBreaker | None = None


@dataclass(slots=True)
class _Provider:
    """How a provider fares with all tenants.

    Attributes:
        well_at: When an answer came last.
        failures: By tenant, since then.
    """

    breaker: CircuitBreaker
    well_at: float = float("-inf")
    failures: dict[TenantId, int] = field(default_factory=dict)


@dataclass(slots=True)
class Vitals:
    """How a model fares with all tenants.

    Attributes:
        busy: Requests under way.
        seconds: What answers took lately, the newest counting most; None before the first.
    """

    busy: int = 0
    seconds: float | None = None

    def took(self, seconds: float) -> None:
        """Learn how long an answer took."""
        known = self.seconds
        self.seconds = seconds if known is None else known + _WEIGHT_OF_NEW * (seconds - known)


class FleetHealth:
    """How models fare, in this process. What is well takes no memory; what is kept is bounded."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rows: OrderedDict[tuple[TenantId, str], _Row] = OrderedDict()
        self._providers: dict[str, _Provider] = {}
        self._vitals: OrderedDict[str, Vitals] = OrderedDict()

    def now(self) -> float:
        """Return what the clock says."""
        return self._clock.now()

    def vitals(self, model: str) -> Vitals:
        """Return how a model fares."""
        found = self._vitals.get(model)
        if found is None:
            found = self._vitals[model] = Vitals()
            if len(self._vitals) > _MOST_MODELS:
                self._vitals.popitem(last=False)
        return found

    def rests(self, tenant: TenantId, model: str) -> float:
        """Return the seconds for which others should be asked first; 0.0 for none."""
        row = self._rows.get((tenant, model))
        if row is None:
            return 0.0
        return max(0.0, max(row.rests_until, row.waits_until) - self._clock.now())

    def waits(self, tenant: TenantId, model: str) -> float:
        """Return for how many seconds the provider asked the tenant not to call; 0.0 for none."""
        row = self._rows.get((tenant, model))
        return max(0.0, row.waits_until - self._clock.now()) if row is not None else 0.0

    def admit(self, tenant: TenantId, provider: str, model: str) -> list[Admission] | float:
        """Return leave to ask, for the one `succeeded`, `failed` or `abandoned` that must follow.

        A number is a refusal: the seconds until another try makes sense.
        """
        breakers = []
        row = self._rows.get((tenant, model))
        if row is not None and row.breaker is not None:
            breakers.append(row.breaker)
        known = self._providers.get(provider)
        if known is not None:
            breakers.append(known.breaker)
        admissions: list[Admission] = []
        for breaker in breakers:
            number = breaker.admit()
            if number is None:
                self.abandoned(admissions)
                return breaker.retry_after
            admissions.append((breaker, number))
        return admissions

    def succeeded(
        self, tenant: TenantId, provider: str, model: str, admissions: list[Admission]
    ) -> None:
        """Count an answer: neither the model nor the provider is down."""
        now = self._clock.now()
        if (tenant, model) in self._rows:
            self._rows[(tenant, model)] = _Row(well_at=now)
        known = self._provider(provider)
        known.well_at = now
        known.failures.clear()
        for breaker, number in admissions:
            if breaker.state != "closed":
                breaker.record(number, failed=False)

    def revived(self, provider: str) -> None:
        """Leave a provider alone no longer: it answered though it was."""
        self._providers.pop(provider, None)

    def failed(
        self,
        tenant: TenantId,
        provider: str,
        model: str,
        admissions: list[Admission],
        *,
        began: float,
    ) -> None:
        """Count a failure that speaks against the model or its provider.

        What began before the last answer came says nothing about how things are now.

        Args:
            tenant: Whose request it was.
            provider: Who failed.
            model: Full name of the model that was asked.
            admissions: What `admit` returned.
            began: The reading of the clock when it was sent.
        """
        probed = False
        for breaker, number in admissions:
            if breaker.state != "closed":
                breaker.record(number, failed=True)
                probed = True
        row, known = self._row(tenant, model), self._provider(provider)
        if began >= row.well_at:
            self._count(row, began)
            if row.failures >= _IN_A_ROW and not probed:
                row.breaker = row.breaker or CircuitBreaker(_ONE_FAILURE, self._clock)
                _open(row.breaker)
        if began >= known.well_at:
            known.failures[tenant] = min(_A_TENANT, known.failures.get(tenant, 0) + 1)
            if sum(known.failures.values()) >= _IN_A_ROW and not probed:
                _open(known.breaker)
                known.failures.clear()

    def _count(self, row: _Row, began: float) -> None:
        row.failures += 1
        # Failures of requests that were under way together are one reason to rest, not many.
        if row.failures >= _DEMOTED_AT and began >= row.rested_at:
            now = self._clock.now()
            rest = min(_LONGEST_REST, _FIRST_REST * 2.0**row.rests)
            row.rests, row.rested_at = min(row.rests + 1, 10), now
            row.rests_until = max(row.rests_until, now + rest)

    def asked_to_wait(self, tenant: TenantId, model: str, seconds: float) -> None:
        """Ask it nothing for a while: its provider said so."""
        row = self._row(tenant, model)
        until = self._clock.now() + min(_LONGEST_WAIT, seconds)
        row.waits_until = max(row.waits_until, until)

    def rest(self, tenant: TenantId, model: str, seconds: float) -> None:
        """Ask others first for a while."""
        row = self._row(tenant, model)
        row.rests_until = max(row.rests_until, self._clock.now() + seconds)

    @staticmethod
    def abandoned(admissions: list[Admission]) -> None:
        """Give leave back: how it would have ended is not known."""
        for breaker, number in admissions:
            breaker.abandon(number)

    def _provider(self, name: str) -> _Provider:
        known = self._providers.get(name)
        if known is None:
            known = self._providers[name] = _Provider(CircuitBreaker(_ONE_FAILURE, self._clock))
        return known

    def _row(self, tenant: TenantId, model: str) -> _Row:
        key = (tenant, model)
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = _Row()
            if len(self._rows) > _MOST:
                self._rows.popitem(last=False)
        else:
            self._rows.move_to_end(key)
        return row


def _open(breaker: CircuitBreaker) -> None:
    """Open a breaker that is closed."""
    if breaker.state == "closed" and (number := breaker.admit()) is not None:
        breaker.record(number, failed=True)
