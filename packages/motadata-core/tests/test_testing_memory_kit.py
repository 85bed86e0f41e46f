"""The kit for memories passes an honest one, and finds the mistakes of others."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Protocol

import pytest

from motadata.core.errors import AgentError
from motadata.core.protocols import Memory
from motadata.core.resilience import context_without_deadline, time_limit
from motadata.core.tenancy import resolve_tenant
from motadata.core.testing.gate import Gate
from motadata.core.testing.memory import MemoryConformance, Reopen


Exchange = tuple[str, str]


class Complaint(Protocol):
    async def __call__(self, kit: object, test: str, **fixtures: object) -> str: ...


class Shelf:
    """Where exchanges are kept by tenant and subject; it takes a moment, and may not answer."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._kept: dict[tuple[str, str], tuple[Exchange, ...]] = {}

    async def read(self, tenant: str, subject: str) -> tuple[Exchange, ...]:
        await self._answer()
        return self._kept.get((tenant, subject), ())

    async def replace(self, tenant: str, subject: str, kept: tuple[Exchange, ...]) -> None:
        await self._answer()
        self._kept[tenant, subject] = kept

    async def append(self, tenant: str, subject: str, exchange: Exchange) -> None:
        await self._answer()
        self._kept[tenant, subject] = (*self._kept.get((tenant, subject), ()), exchange)

    async def _answer(self) -> None:
        await self._gate.passage()
        await asyncio.sleep(0)


class ShelfMemory:
    """Recalls the exchanges that share most words with what is asked."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def recall(
        self, subject: str, query: str, *, limit: int = 5, tenant_id: str | None = None
    ) -> Sequence[str]:
        tenant = self.tenant_of(tenant_id)
        self.check(limit, subject, query)
        async with time_limit(None, what="the shelf"):
            kept = await self.read(tenant, subject)
        return [f"{question} {answer}" for question, answer in self.best(kept, query, limit)]

    async def remember(
        self, subject: str, question: str, answer: str, *, tenant_id: str | None = None
    ) -> None:
        tenant = self.tenant_of(tenant_id)
        self.check(1, subject, question, answer)
        async with time_limit(None, what="the shelf"):
            await self.keep(tenant, subject, (question, answer))

    def tenant_of(self, tenant_id: str | None) -> str:
        return resolve_tenant(tenant_id)

    def check(self, limit: int, *texts: str) -> None:
        if limit < 1 or not all(text.strip() for text in texts):
            message = f"limit={limit!r} is not positive, or a text is blank."
            raise AgentError(message)

    def best(self, kept: Sequence[Exchange], query: str, limit: int) -> Sequence[tuple[str, str]]:
        wanted = words(query)
        return sorted(kept, key=lambda one: -len(wanted & words(" ".join(one))))[:limit]

    async def read(self, tenant: str, subject: str) -> Sequence[Exchange]:
        return await self._shelf.read(tenant, subject)

    async def keep(self, tenant: str, subject: str, exchange: Exchange) -> None:
        await self._shelf.append(tenant, subject, exchange)


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


class MixingTenants(ShelfMemory):
    def tenant_of(self, tenant_id: str | None) -> str:
        super().tenant_of(tenant_id)
        return "everybody"


class MixingSubjects(ShelfMemory):
    async def read(self, tenant: str, subject: str) -> Sequence[Exchange]:
        return await super().read(tenant, "anybody")

    async def keep(self, tenant: str, subject: str, exchange: Exchange) -> None:
        await super().keep(tenant, "anybody", exchange)


class BlindToCase(MixingSubjects):
    async def read(self, tenant: str, subject: str) -> Sequence[Exchange]:
        return await ShelfMemory.read(self, tenant, subject.lower())

    async def keep(self, tenant: str, subject: str, exchange: Exchange) -> None:
        await ShelfMemory.keep(self, tenant, subject.lower(), exchange)


class WithoutNeedOfATenant(ShelfMemory):
    def tenant_of(self, tenant_id: str | None) -> str:
        return resolve_tenant(tenant_id or "default")


class TakingAnyTenant(ShelfMemory):
    def tenant_of(self, tenant_id: str | None) -> str:
        return tenant_id if tenant_id is not None else resolve_tenant(None)


class TakingAnyText(ShelfMemory):
    def check(self, limit: int, *texts: str) -> None: ...


class OldestFirst(ShelfMemory):
    def best(self, kept: Sequence[Exchange], query: str, limit: int) -> Sequence[tuple[str, str]]:
        return kept[:limit]


class WithoutALimit(ShelfMemory):
    def best(self, kept: Sequence[Exchange], query: str, limit: int) -> Sequence[tuple[str, str]]:
        return super().best(kept, query, len(kept))


class Forgetful(ShelfMemory):
    async def keep(self, tenant: str, subject: str, exchange: Exchange) -> None: ...


class WritingLater(ShelfMemory):
    """Keeps what is new by itself, and would write it when it is left."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(shelf)
        self._new: list[Exchange] = []

    async def read(self, tenant: str, subject: str) -> Sequence[Exchange]:
        return [*await super().read(tenant, subject), *self._new]

    async def keep(self, tenant: str, subject: str, exchange: Exchange) -> None:
        self._new.append(exchange)


class LosingWhatComesAtOnce(ShelfMemory):
    async def keep(self, tenant: str, subject: str, exchange: Exchange) -> None:
        kept = await self._shelf.read(tenant, subject)
        await self._shelf.replace(tenant, subject, (*kept, exchange))


class KeepingHalves(ShelfMemory):
    async def keep(self, tenant: str, subject: str, exchange: Exchange) -> None:
        question, _ = exchange
        self._shelf._kept[tenant, subject] = ((question, ""),)
        await self._shelf.replace(tenant, subject, (exchange,))


class EndingAsIfDone(ShelfMemory):
    async def keep(self, tenant: str, subject: str, exchange: Exchange) -> None:
        try:
            await super().keep(tenant, subject, exchange)
        except asyncio.CancelledError:
            return


class DeafToDeadlines(ShelfMemory):
    async def recall(
        self, subject: str, query: str, *, limit: int = 5, tenant_id: str | None = None
    ) -> Sequence[str]:
        recalling = super().recall(subject, query, limit=limit, tenant_id=tenant_id)
        return await asyncio.create_task(recalling, context=context_without_deadline())


class TestShelfMemory(MemoryConformance):
    @pytest.fixture
    def shelf(self, gate: Gate) -> Shelf:
        return Shelf(gate)

    @pytest.fixture
    def memory(self, shelf: Shelf) -> Memory:
        return ShelfMemory(shelf)

    @pytest.fixture
    def reopen(self, shelf: Shelf) -> Reopen:
        return lambda: nullcontext(ShelfMemory(shelf))


class Hasty(MemoryConformance):
    """Loses its patience early, for implementations that hang."""

    patience = 0.3


@pytest.mark.parametrize(
    ("mistaken", "test"),
    [
        (MixingTenants, "test_tenants_with_equal_subjects_remember_apart"),
        (MixingSubjects, "test_subjects_remember_apart"),
        (BlindToCase, "test_subjects_remember_apart"),
        (WithoutNeedOfATenant, "test_no_operation_without_a_tenant"),
        (TakingAnyTenant, "test_malformed_tenant_is_refused"),
        (TakingAnyText, "test_exchange_without_words_is_refused_and_leaves_nothing"),
        (TakingAnyText, "test_recalling_nothing_or_for_nobody_is_refused"),
        (OldestFirst, "test_what_fits_best_comes_first"),
        (WithoutALimit, "test_no_more_than_the_limit_is_recalled"),
        (Forgetful, "test_exchange_is_recalled_with_its_answer"),
        (WritingLater, "test_exchange_is_kept_for_good_when_remember_has_returned"),
        (LosingWhatComesAtOnce, "test_exchanges_at_once_are_all_kept"),
        (KeepingHalves, "test_cancelled_remembering_keeps_all_of_an_exchange_or_nothing"),
        (EndingAsIfDone, "test_cancelled_remembering_keeps_all_of_an_exchange_or_nothing"),
        (DeafToDeadlines, "test_every_operation_ends_with_the_deadline_of_its_caller"),
    ],
)
async def test_kit_finds(mistaken: type[ShelfMemory], test: str, complaint: Complaint):
    def fixtures(kind: type[ShelfMemory]) -> dict[str, object]:
        gate = Gate()
        shelf = Shelf(gate)
        return {
            "memory": kind(shelf),
            "reopen": lambda: nullcontext(kind(shelf)),
            "gate": gate,
            "tenant": "acme",
            "name": "",
            "subject": "u-1",
            "question": "Why?",
            "answer": " ",
        }

    assert not await complaint(MemoryConformance(), test, **fixtures(ShelfMemory))
    assert await complaint(Hasty(), test, **fixtures(mistaken))
