"""The kit for usage readers passes an honest one, and finds the mistakes of others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Protocol, get_args

import pytest

from motadata.core.errors import ConfigurationError, TenantRequiredError
from motadata.core.protocols import UsageGroup, UsageReader
from motadata.core.resilience import context_without_deadline, time_limit
from motadata.core.tenancy import resolve_tenant
from motadata.core.testing.gate import Gate
from motadata.core.testing.usage_reader import (
    Silenced,
    UsageReaderConformance,
    UsedCall,
    WriteCall,
)


class Complaint(Protocol):
    async def __call__(self, kit: object, test: str, **fixtures: object) -> str: ...


@dataclass(frozen=True, slots=True)
class Total:
    group: tuple[str, ...]
    calls: int
    input_tokens: int
    output_tokens: int
    cost_usd: Decimal
    saved_usd: Decimal
    unpriced: int
    failed: int


class ListedUsage:
    """Adds up the calls of a list, which takes a moment and may not answer."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._calls: list[tuple[str, UsedCall]] = []

    async def write(self, call: UsedCall, tenant_id: str) -> None:
        self._calls.append((tenant_id, call))

    async def usage_by(
        self,
        *groups: UsageGroup,
        since: datetime | None = None,
        until: datetime | None = None,
        tenant_id: str | None = None,
    ) -> Sequence[Total]:
        tenant = self.tenant_of(tenant_id)
        self.check(groups, since, until)
        async with time_limit(None, what="the list"):
            calls = await self.calls_of(tenant)
        grouped: dict[tuple[str, ...], list[UsedCall]] = {}
        for call in calls:
            if self.is_within(call, since, until):
                grouped.setdefault(self.group_of(call, groups), []).append(call)
        return self.totals(grouped)

    def tenant_of(self, tenant_id: str | None) -> str:
        return resolve_tenant(tenant_id)

    def check(self, groups: Sequence[str], *times: datetime | None) -> None:
        if not set(groups) <= set(get_args(UsageGroup)):
            message = f"{groups!r} are not what calls are told apart by."
            raise ConfigurationError(message)
        if any(time is not None and time.tzinfo is None for time in times):
            message = f"One of {times!r} has no zone."
            raise ConfigurationError(message)

    async def calls_of(self, tenant: str) -> Sequence[UsedCall]:
        await self._gate.passage()
        await asyncio.sleep(0)
        return [call for owner, call in self._calls if self.belongs(owner, tenant)]

    def belongs(self, owner: str, tenant: str) -> bool:
        return owner == tenant

    def is_within(self, call: UsedCall, since: datetime | None, until: datetime | None) -> bool:
        return (since is None or call.began_at >= since) and (
            until is None or call.began_at < until
        )

    def group_of(self, call: UsedCall, groups: Iterable[str]) -> tuple[str, ...]:
        began = self.day_of(call)
        times = {"day": f"{began:%Y-%m-%d}", "month": f"{began:%Y-%m}"}
        return tuple(times.get(name) or str(getattr(call, name)) for name in groups)

    def day_of(self, call: UsedCall) -> datetime:
        return call.began_at.astimezone(UTC)

    def totals(self, grouped: dict[tuple[str, ...], list[UsedCall]]) -> Sequence[Total]:
        return [self.total(group, calls) for group, calls in grouped.items()]

    def total(self, group: tuple[str, ...], calls: Sequence[UsedCall]) -> Total:
        return Total(
            group,
            len(calls),
            sum(call.input_tokens for call in calls),
            sum(call.output_tokens for call in calls),
            self.money(call.cost_usd for call in calls),
            self.money(call.saved_usd for call in calls),
            sum(call.cost_usd is None for call in calls),
            sum(bool(call.error) for call in calls),
        )

    def money(self, amounts: Iterable[Decimal | None]) -> Decimal:
        return sum((amount for amount in amounts if amount is not None), Decimal(0))


class MixingTenants(ListedUsage):
    def belongs(self, owner: str, tenant: str) -> bool:
        return True


class BlindToCase(ListedUsage):
    def belongs(self, owner: str, tenant: str) -> bool:
        return owner.lower() == tenant.lower()


class WithoutNeedOfATenant(ListedUsage):
    def tenant_of(self, tenant_id: str | None) -> str:
        return resolve_tenant(tenant_id or "default")


class TakingAnyTenant(ListedUsage):
    def tenant_of(self, tenant_id: str | None) -> str:
        return tenant_id if tenant_id is not None else resolve_tenant(None)


class PreferringTheScope(ListedUsage):
    def tenant_of(self, tenant_id: str | None) -> str:
        try:
            return resolve_tenant(None)
        except TenantRequiredError:
            return resolve_tenant(tenant_id)


class TakingAnything(ListedUsage):
    def check(self, groups: Sequence[str], *times: datetime | None) -> None: ...


class IgnoringUnknownGroups(ListedUsage):
    def check(self, groups: Sequence[str], *times: datetime | None) -> None: ...

    def group_of(self, call: UsedCall, groups: Iterable[str]) -> tuple[str, ...]:
        return super().group_of(call, [name for name in groups if hasattr(call, name)])


class CountingTheEnd(ListedUsage):
    def is_within(self, call: UsedCall, since: datetime | None, until: datetime | None) -> bool:
        return (since is None or call.began_at >= since) and (
            until is None or call.began_at <= until
        )


class ComparingClocks(ListedUsage):
    def is_within(self, call: UsedCall, since: datetime | None, until: datetime | None) -> bool:
        begun, first, last = (
            time and time.replace(tzinfo=UTC) for time in (call.began_at, since, until)
        )
        assert begun is not None
        return (first is None or begun >= first) and (last is None or begun < last)


class SortingGroups(ListedUsage):
    def group_of(self, call: UsedCall, groups: Iterable[str]) -> tuple[str, ...]:
        return super().group_of(call, sorted(groups))


class WithDaysOfTheCaller(ListedUsage):
    def day_of(self, call: UsedCall) -> datetime:
        return call.began_at


class WithoutCallsThatHaveNoFeature(ListedUsage):
    def totals(self, grouped: dict[tuple[str, ...], list[UsedCall]]) -> Sequence[Total]:
        return super().totals({group: grouped[group] for group in grouped if all(group)})


class OfOneSumEach(ListedUsage):
    def totals(self, grouped: dict[tuple[str, ...], list[UsedCall]]) -> Sequence[Total]:
        return [self.total(group, [call]) for group, calls in grouped.items() for call in calls]


class WithZerosForNobody(ListedUsage):
    def totals(self, grouped: dict[tuple[str, ...], list[UsedCall]]) -> Sequence[Total]:
        return super().totals(grouped or {(): []})


class RoundingMoney(ListedUsage):
    def money(self, amounts: Iterable[Decimal | None]) -> Decimal:
        return Decimal(str(sum(float(amount) for amount in amounts if amount is not None)))


class AnsweringWhenCancelled(ListedUsage):
    async def calls_of(self, tenant: str) -> Sequence[UsedCall]:
        try:
            return await super().calls_of(tenant)
        except asyncio.CancelledError:
            return []


class DeafToDeadlines(ListedUsage):
    async def usage_by(
        self,
        *groups: UsageGroup,
        since: datetime | None = None,
        until: datetime | None = None,
        tenant_id: str | None = None,
    ) -> Sequence[Total]:
        reading = super().usage_by(*groups, since=since, until=until, tenant_id=tenant_id)
        return await asyncio.create_task(reading, context=context_without_deadline())


def silence(gate: Gate) -> Silenced:
    @asynccontextmanager
    async def silenced() -> AsyncIterator[None]:
        gate.close()
        try:
            yield
        finally:
            gate.open()

    return silenced


class TestListedUsage(UsageReaderConformance):
    @pytest.fixture
    def gate(self) -> Gate:
        return Gate()

    @pytest.fixture
    def usage_reader(self, gate: Gate) -> UsageReader:
        return ListedUsage(gate)

    @pytest.fixture
    def write_call(self, usage_reader: ListedUsage) -> WriteCall:
        return usage_reader.write

    @pytest.fixture
    def silenced(self, gate: Gate) -> Silenced:
        return silence(gate)


class Hasty(UsageReaderConformance):
    """Loses its patience early, for implementations that hang."""

    patience = 0.3


@pytest.mark.parametrize(
    ("mistaken", "test"),
    [
        (MixingTenants, "test_tenants_see_only_their_own_calls"),
        (BlindToCase, "test_tenants_see_only_their_own_calls"),
        (WithoutNeedOfATenant, "test_nothing_is_read_without_a_tenant"),
        (TakingAnyTenant, "test_malformed_tenant_is_refused"),
        (PreferringTheScope, "test_tenant_of_the_scope_is_taken_unless_another_is_given"),
        (TakingAnything, "test_unknown_group_is_refused"),
        (IgnoringUnknownGroups, "test_unknown_group_is_refused"),
        (TakingAnything, "test_time_without_a_zone_is_refused"),
        (CountingTheEnd, "test_since_is_within_the_period_and_until_is_not"),
        (ComparingClocks, "test_since_is_within_the_period_and_until_is_not"),
        (SortingGroups, "test_groups_come_in_the_order_in_which_they_were_asked_for"),
        (WithDaysOfTheCaller, "test_days_and_months_are_those_of_utc"),
        (WithoutCallsThatHaveNoFeature, "test_calls_are_told_apart_by"),
        (OfOneSumEach, "test_without_groups_everything_is_one_sum"),
        (WithZerosForNobody, "test_who_used_nothing_has_no_sums"),
        (RoundingMoney, "test_money_is_added_up_exactly"),
        (
            AnsweringWhenCancelled,
            "test_reading_that_is_cancelled_after_some_turns_ends_and_the_next_one_is_right",
        ),
        (DeafToDeadlines, "test_reading_ends_with_the_deadline_of_its_caller"),
    ],
)
async def test_kit_finds(mistaken: type[ListedUsage], test: str, complaint: Complaint):
    def fixtures(kind: type[ListedUsage]) -> dict[str, object]:
        gate = Gate()
        reader = kind(gate)
        return {
            "usage_reader": reader,
            "write_call": reader.write,
            "silenced": silence(gate),
            "tenant": "acme",
            "name": "",
            "group": "tenant_id" if "unknown" in test else "feature",
            "turns": 5,
        }

    assert not await complaint(UsageReaderConformance(), test, **fixtures(ListedUsage))
    assert await complaint(Hasty(), test, **fixtures(mistaken))
