"""Usage over real HTTP, for the tenant of the key."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from motadata.core.protocols import UsageGroup, UsageTotal


if TYPE_CHECKING:
    from conftest import ServeFakes, Service


@dataclass(frozen=True)
class Total:
    group: tuple[str, ...]
    calls: int = 2
    input_tokens: int = 30
    output_tokens: int = 4
    cost_usd: Decimal = Decimal("0.000000123456789")
    saved_usd: Decimal = Decimal(0)
    unpriced: int = 1
    failed: int = 0


@dataclass
class KeptUsage:
    """Answers with one sum that says what was asked."""

    asked: list[tuple[str | None, tuple[UsageGroup, ...], datetime | None]] = field(
        default_factory=list
    )

    async def usage_by(
        self,
        *groups: UsageGroup,
        since: datetime | None = None,
        until: datetime | None = None,
        tenant_id: str | None = None,
    ) -> Sequence[UsageTotal]:
        self.asked.append((tenant_id, groups, since))
        return [Total(tuple(f"{tenant_id}'s {group}" for group in groups))]


@pytest.fixture
def kept() -> KeptUsage:
    return KeptUsage()


@pytest.fixture
async def service(serve_fakes: ServeFakes, kept: KeptUsage) -> AsyncIterator[Service]:
    async with serve_fakes(extra={"usage": kept}) as running:
        yield running


async def test_usage_is_that_of_the_tenant_and_exact(service: Service, kept: KeptUsage):
    answer = await service.client.get(
        "/v1/usage",
        params={"by": ["day", "model", "day"], "since": "2026-11-01T00:00:00Z"},
        headers=service.headers("globex-key"),
    )

    assert answer.status_code == 200
    assert answer.json()["usage"] == [
        {
            "group": {"day": "globex's day", "model": "globex's model"},
            "calls": 2,
            "input_tokens": 30,
            "output_tokens": 4,
            "cost_usd": "0.000000123456789",
            "saved_usd": "0",
            "unpriced": 1,
            "failed": 0,
        }
    ]
    assert kept.asked == [("globex", ("day", "model"), datetime(2026, 11, 1, tzinfo=UTC))]


async def test_usage_of_everything_is_one_sum(service: Service):
    answer = await service.client.get("/v1/usage", headers=service.headers())
    assert [total["group"] for total in answer.json()["usage"]] == [{}]


@pytest.mark.parametrize(
    "params",
    [
        {"by": "phase"},
        {"by": ["day", "model", "user", "error"]},
        {"since": "2026-11-01T00:00:00"},
    ],
)
async def test_what_cannot_be_added_up_is_refused(
    service: Service, kept: KeptUsage, params: dict[str, str | list[str]]
):
    answer = await service.client.get("/v1/usage", params=params, headers=service.headers())
    assert (answer.status_code, kept.asked) == (422, [])


async def test_usage_needs_a_key_and_the_component(service: Service, serve_fakes: ServeFakes):
    assert (await service.client.get("/v1/usage")).status_code == 401
    async with serve_fakes() as without:
        answer = await without.client.get("/v1/usage", headers=without.headers())
    assert answer.status_code == 404
