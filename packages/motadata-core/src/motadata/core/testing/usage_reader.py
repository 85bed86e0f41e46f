"""The contract of a usage reader as tests: subclass and give three fixtures.

    class TestMine(UsageReaderConformance):
        @pytest.fixture
        def usage_reader(self) -> UsageReader:
            return Mine()

        @pytest.fixture
        def write_call(self) -> WriteCall:
            async def write(call: UsedCall, tenant_id: str) -> None:
                ...  # make the call known

            return write

        @pytest.fixture
        def silenced(self) -> Silenced:
            return lambda: ...  # a block within which what is read from does not answer

The tests use tenants of their own, of whom nothing is known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import ClassVar, Final, cast, get_args
from uuid import uuid4

import pytest

from motadata.core.errors import (
    ConfigurationError,
    DeadlineExceededError,
    InvalidIdentifierError,
    TenantRequiredError,
)
from motadata.core.protocols import UsageGroup, UsageReader, UsageTotal
from motadata.core.resilience import deadline_scope
from motadata.core.tenancy import tenant_scope


_NOON: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
_SHORT: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedCall:
    """A call of a model, as far as a reader may tell calls apart.

    Attributes:
        began_at: When it began.
        cost_usd: None when no price was known.
        saved_usd: What a cache saved.
        error: Code of the error that it ended with, or empty.
    """

    began_at: datetime = _NOON
    operation: str = "chat"
    model: str = "p/m"
    provider: str = "p"
    feature: str = ""
    user: str = ""
    prompt: str = ""
    error: str = ""
    price_version: str = "listed"
    input_tokens: int = 100
    output_tokens: int = 10
    cost_usd: Decimal | None = Decimal("0.5")
    saved_usd: Decimal | None = None


WriteCall = Callable[[UsedCall, str], Awaitable[None]]
"""Makes a call of a tenant known, however the reader comes to know of calls."""

Silenced = Callable[[], AbstractAsyncContextManager[None]]
"""Begins a block within which what the reader reads from does not answer."""

_CALL: Final = UsedCall()
_OTHERS: Final[dict[UsageGroup, tuple[UsedCall, str, str]]] = {
    "day": (replace(_CALL, began_at=_NOON + timedelta(days=1)), "2026-03-01", "2026-03-02"),
    "month": (replace(_CALL, began_at=_NOON + timedelta(days=31)), "2026-03", "2026-04"),
    "operation": (replace(_CALL, operation="embedding"), "chat", "embedding"),
    "model": (replace(_CALL, model="p/n"), "p/m", "p/n"),
    "provider": (replace(_CALL, provider="q"), "p", "q"),
    "feature": (replace(_CALL, feature="triage"), "", "triage"),
    "user": (replace(_CALL, user="u-1"), "", "u-1"),
    "prompt": (replace(_CALL, prompt="triage@1"), "", "triage@1"),
    "error": (replace(_CALL, error="provider_error"), "", "provider_error"),
    "price_version": (replace(_CALL, price_version="own"), "listed", "own"),
}
"""For each group a call that differs from `_CALL` in it, and how both are called there."""


class UsageReaderConformance:
    """What every implementation of `motadata.core.protocols.UsageReader` must do.

    Attributes:
        patience: Seconds after which what should have ended is taken to hang.
    """

    patience: ClassVar[float] = 30.0

    @pytest.fixture
    def usage_reader(self) -> UsageReader:
        """Supply the implementation, entered."""
        message = "A subclass supplies the fixture `usage_reader`."
        raise NotImplementedError(message)

    @pytest.fixture
    def write_call(self) -> WriteCall:
        """Supply how a call is made known."""
        message = "A subclass supplies the fixture `write_call`."
        raise NotImplementedError(message)

    @pytest.fixture
    def silenced(self) -> Silenced:
        """Supply a block within which what is read from does not answer."""
        message = "A subclass supplies the fixture `silenced`."
        raise NotImplementedError(message)

    @pytest.fixture
    def tenant(self) -> str:
        """Return a tenant of whom nothing is known."""
        return f"kit-{uuid4().hex}"

    async def test_who_used_nothing_has_no_sums(
        self, usage_reader: UsageReader, tenant: str
    ) -> None:
        assert list(await usage_reader.usage_by(tenant_id=tenant)) == []
        assert list(await usage_reader.usage_by("model", tenant_id=tenant)) == []

    async def test_without_groups_everything_is_one_sum(
        self, usage_reader: UsageReader, write_call: WriteCall, tenant: str
    ) -> None:
        failed = UsedCall(error="provider_error", cost_usd=None, input_tokens=7, output_tokens=0)
        saved = UsedCall(model="p/n", cost_usd=Decimal(0), saved_usd=Decimal("0.25"))
        for call in (_CALL, failed, saved):
            await write_call(call, tenant)

        (total,) = await usage_reader.usage_by(tenant_id=tenant)

        assert tuple(total.group) == ()
        assert (total.calls, total.failed, total.unpriced) == (3, 1, 1)
        assert (total.input_tokens, total.output_tokens) == (207, 20)
        assert (total.cost_usd, total.saved_usd) == (Decimal("0.5"), Decimal("0.25"))

    async def test_money_is_added_up_exactly(
        self, usage_reader: UsageReader, write_call: WriteCall, tenant: str
    ) -> None:
        for cost in ("0.1", "0.2", "0.000000001"):
            await write_call(UsedCall(cost_usd=Decimal(cost), saved_usd=Decimal(cost)), tenant)

        (total,) = await usage_reader.usage_by(tenant_id=tenant)

        assert total.cost_usd == total.saved_usd == Decimal("0.300000001")

    async def test_every_group_of_the_contract_is_tried_here(self) -> None:
        assert set(_OTHERS) == set(get_args(UsageGroup))

    @pytest.mark.parametrize("group", _OTHERS)
    async def test_calls_are_told_apart_by(
        self, usage_reader: UsageReader, write_call: WriteCall, tenant: str, group: UsageGroup
    ) -> None:
        other, here, there = _OTHERS[group]
        for call in (_CALL, other, other):
            await write_call(call, tenant)

        totals = await usage_reader.usage_by(group, tenant_id=tenant)

        assert _calls(totals) == {(here,): 1, (there,): 2}

    async def test_groups_come_in_the_order_in_which_they_were_asked_for(
        self, usage_reader: UsageReader, write_call: WriteCall, tenant: str
    ) -> None:
        for call in (_CALL, UsedCall(feature="triage"), UsedCall(model="p/n", feature="triage")):
            await write_call(call, tenant)

        by_model = await usage_reader.usage_by("model", "feature", tenant_id=tenant)
        by_feature = await usage_reader.usage_by("feature", "model", tenant_id=tenant)

        assert _calls(by_model) == {("p/m", ""): 1, ("p/m", "triage"): 1, ("p/n", "triage"): 1}
        assert _calls(by_feature) == {("", "p/m"): 1, ("triage", "p/m"): 1, ("triage", "p/n"): 1}

    async def test_days_and_months_are_those_of_utc(
        self, usage_reader: UsageReader, write_call: WriteCall, tenant: str
    ) -> None:
        began = datetime(2026, 3, 1, 0, 30, tzinfo=timezone(timedelta(hours=2)))
        await write_call(UsedCall(began_at=began), tenant)

        totals = await usage_reader.usage_by("day", "month", tenant_id=tenant)

        assert _calls(totals) == {("2026-02-28", "2026-02"): 1}

    async def test_since_is_within_the_period_and_until_is_not(
        self, usage_reader: UsageReader, write_call: WriteCall, tenant: str
    ) -> None:
        hours = [_NOON + timedelta(hours=number) for number in range(4)]
        for hour in hours:
            await write_call(UsedCall(began_at=hour, prompt=f"{hour:%H}"), tenant)

        within = await usage_reader.usage_by(
            "prompt", since=hours[1], until=hours[3], tenant_id=tenant
        )
        elsewhere = hours[2].astimezone(timezone(timedelta(hours=5)))
        since = await usage_reader.usage_by("prompt", since=elsewhere, tenant_id=tenant)
        until = await usage_reader.usage_by("prompt", until=elsewhere, tenant_id=tenant)
        none = await usage_reader.usage_by(since=hours[2], until=hours[2], tenant_id=tenant)

        assert set(_calls(within)) == {("13",), ("14",)}
        assert set(_calls(since)) == {("14",), ("15",)}
        assert set(_calls(until)) == {("12",), ("13",)}
        assert list(none) == []

    @pytest.mark.parametrize("group", ["tenant_id", "model; drop table x", "", "Model"])
    async def test_unknown_group_is_refused(
        self, usage_reader: UsageReader, tenant: str, group: str
    ) -> None:
        with pytest.raises(ConfigurationError):
            await usage_reader.usage_by("model", cast("UsageGroup", group), tenant_id=tenant)

    async def test_time_without_a_zone_is_refused(
        self, usage_reader: UsageReader, tenant: str
    ) -> None:
        with pytest.raises(ConfigurationError):
            await usage_reader.usage_by(since=_NOON.replace(tzinfo=None), tenant_id=tenant)
        with pytest.raises(ConfigurationError):
            await usage_reader.usage_by(until=_NOON.replace(tzinfo=None), tenant_id=tenant)

    async def test_tenants_see_only_their_own_calls(
        self, usage_reader: UsageReader, write_call: WriteCall, tenant: str
    ) -> None:
        other = f"kit-{uuid4().hex}"
        await write_call(_CALL, tenant)
        await write_call(UsedCall(model="p/n"), other)

        ours, theirs, nobodys = await asyncio.gather(
            *(
                usage_reader.usage_by("model", tenant_id=name)
                for name in (tenant, other, tenant.upper())
            )
        )

        assert _calls(ours) == {("p/m",): 1}
        assert _calls(theirs) == {("p/n",): 1}
        assert list(nobodys) == []

    async def test_nothing_is_read_without_a_tenant(self, usage_reader: UsageReader) -> None:
        with pytest.raises(TenantRequiredError):
            await usage_reader.usage_by()
        with pytest.raises(TenantRequiredError):
            await usage_reader.usage_by("model")

    @pytest.mark.parametrize("name", ["", "a:b", "*", "x' or 'a' = 'a", "x" * 65])
    async def test_malformed_tenant_is_refused(
        self, usage_reader: UsageReader, tenant: str, name: str
    ) -> None:
        with tenant_scope(tenant), pytest.raises(InvalidIdentifierError):
            await usage_reader.usage_by(tenant_id=name)

    async def test_tenant_of_the_scope_is_taken_unless_another_is_given(
        self, usage_reader: UsageReader, write_call: WriteCall, tenant: str
    ) -> None:
        await write_call(_CALL, tenant)

        with tenant_scope(tenant):
            scoped = await usage_reader.usage_by("model")
            given = await usage_reader.usage_by("model", tenant_id=f"kit-{uuid4().hex}")

        assert (_calls(scoped), list(given)) == ({("p/m",): 1}, [])

    async def test_reading_ends_with_the_deadline_of_its_caller(
        self, usage_reader: UsageReader, write_call: WriteCall, tenant: str, silenced: Silenced
    ) -> None:
        await write_call(_CALL, tenant)

        async with silenced(), asyncio.timeout(self.patience):
            with deadline_scope(_SHORT), pytest.raises(DeadlineExceededError):
                await usage_reader.usage_by(tenant_id=tenant)

        assert len(await usage_reader.usage_by(tenant_id=tenant)) == 1

    @pytest.mark.parametrize("turns", [0, 1, 5, 25])
    async def test_reading_that_is_cancelled_after_some_turns_ends_and_the_next_one_is_right(
        self,
        usage_reader: UsageReader,
        write_call: WriteCall,
        tenant: str,
        silenced: Silenced,
        turns: int,
    ) -> None:
        await write_call(_CALL, tenant)

        async with silenced():
            task = asyncio.ensure_future(usage_reader.usage_by(tenant_id=tenant))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task}, timeout=self.patience)

        assert task.cancelled()
        assert len(await usage_reader.usage_by(tenant_id=tenant)) == 1


def _calls(totals: Sequence[UsageTotal]) -> dict[tuple[str, ...], int]:
    """Return how many calls each group has."""
    found = {tuple(total.group): total.calls for total in totals}
    assert len(found) == len(totals), "A group came twice."
    return found
