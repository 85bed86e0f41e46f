"""The contract of a memory as tests: subclass and give two fixtures.

    class TestMine(MemoryConformance):
        @pytest.fixture
        def memory(self, store: Store) -> Memory:
            return Mine(store)

        @pytest.fixture
        def reopen(self, store: Store) -> Reopen:
            return lambda: nullcontext(Mine(store))

`reopen` opens another instance on what the first one keeps. The store that stands behind both in
the tests awaits `gate.passage()` before it reads or writes. The tests use tenants of their own, of
whom nothing is known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import ClassVar
from uuid import uuid4

import pytest

from motadata.core.errors import AgentError, InvalidIdentifierError, TenantRequiredError
from motadata.core.protocols import Memory
from motadata.core.tenancy import tenant_scope
from motadata.core.testing.gate import Gate, cancel_at, outlast_deadline_at


Reopen = Callable[[], AbstractAsyncContextManager[Memory]]
"""Opens another instance on what the first one keeps."""

_QUESTION = "How is the VPN token reset?"
_ANSWER = "The VPN token is reset by calling 4711."


class MemoryConformance:
    """What every implementation of `motadata.core.protocols.Memory` must do.

    Attributes:
        patience: Seconds after which what should have ended is taken to hang.
    """

    patience: ClassVar[float] = 30.0

    @pytest.fixture
    def memory(self) -> Memory:
        """Supply the implementation, entered."""
        message = "A subclass supplies the fixture `memory`."
        raise NotImplementedError(message)

    @pytest.fixture
    def reopen(self) -> Reopen:
        """Supply how another instance is opened on what the first one keeps."""
        message = "A subclass supplies the fixture `reopen`."
        raise NotImplementedError(message)

    @pytest.fixture
    def gate(self) -> Iterator[Gate]:
        """Give the gate at which the memory's store waits when it is closed."""
        gate = Gate()
        yield gate
        gate.open()

    @pytest.fixture
    def tenant(self) -> str:
        """Return a tenant of whom nothing is known."""
        return f"kit-{uuid4().hex}"

    async def test_nothing_is_recalled_of_whom_nothing_is_known(
        self, memory: Memory, tenant: str
    ) -> None:
        assert list(await memory.recall("u-1", _QUESTION, tenant_id=tenant)) == []

    async def test_exchange_is_recalled_with_its_answer(self, memory: Memory, tenant: str) -> None:
        await memory.remember("u-1", _QUESTION, _ANSWER, tenant_id=tenant)

        (recalled,) = await memory.recall("u-1", _QUESTION, tenant_id=tenant)

        assert _ANSWER in recalled

    async def test_what_fits_best_comes_first(self, memory: Memory, tenant: str) -> None:
        printer = "A paper jam is cleared by opening tray two of the printer."
        await memory.remember("u-1", "How do I clear a paper jam?", printer, tenant_id=tenant)
        await memory.remember("u-1", _QUESTION, _ANSWER, tenant_id=tenant)
        await memory.remember("u-1", "Who bakes the bread?", "The baker does.", tenant_id=tenant)

        about_tokens = await memory.recall("u-1", _QUESTION, tenant_id=tenant)
        about_paper = await memory.recall("u-1", "How do I clear a paper jam?", tenant_id=tenant)

        assert _ANSWER in about_tokens[0]
        assert printer in about_paper[0]

    async def test_no_more_than_the_limit_is_recalled(self, memory: Memory, tenant: str) -> None:
        for number in range(10, 20):
            answer = f"The VPN token of floor {number} is reset by calling 47{number}."
            await memory.remember("u-1", _QUESTION, answer, tenant_id=tenant)

        two = await memory.recall("u-1", _QUESTION, limit=2, tenant_id=tenant)
        five = await memory.recall("u-1", _QUESTION, tenant_id=tenant)

        assert 1 <= len(two) <= 2
        assert 1 <= len(five) <= 5

    async def test_exchange_is_kept_for_good_when_remember_has_returned(
        self, memory: Memory, reopen: Reopen, tenant: str
    ) -> None:
        await memory.remember("u-1", _QUESTION, _ANSWER, tenant_id=tenant)

        async with reopen() as another:
            (recalled,) = await another.recall("u-1", _QUESTION, tenant_id=tenant)

        assert _ANSWER in recalled

    async def test_exchanges_at_once_are_all_kept(self, memory: Memory, tenant: str) -> None:
        answers = [
            f"The VPN token of floor {number} is reset by calling 47{number}."
            for number in range(10, 30)
        ]

        await asyncio.gather(
            *(memory.remember("u-1", _QUESTION, answer, tenant_id=tenant) for answer in answers)
        )

        recalled = await memory.recall("u-1", _QUESTION, limit=20, tenant_id=tenant)
        found = [answer for answer in answers if any(answer in text for text in recalled)]
        assert found == answers

    async def test_subjects_remember_apart(self, memory: Memory, tenant: str) -> None:
        await memory.remember("u-1", _QUESTION, _ANSWER, tenant_id=tenant)

        assert list(await memory.recall("u-2", _QUESTION, tenant_id=tenant)) == []
        assert list(await memory.recall("U-1", _QUESTION, tenant_id=tenant)) == []

    async def test_tenants_with_equal_subjects_remember_apart(
        self, memory: Memory, tenant: str
    ) -> None:
        other = f"kit-{uuid4().hex}"
        await memory.remember("u-1", _QUESTION, _ANSWER, tenant_id=tenant)
        await memory.remember("u-1", _QUESTION, "Nobody resets it.", tenant_id=other)

        (ours,) = await memory.recall("u-1", _QUESTION, tenant_id=tenant)
        (theirs,) = await memory.recall("u-1", _QUESTION, tenant_id=other)

        assert (_ANSWER in ours, "Nobody" in ours) == (True, False)
        assert ("Nobody" in theirs, _ANSWER in theirs) == (True, False)

    @pytest.mark.parametrize(
        ("subject", "question", "answer"),
        [("", "Why?", _ANSWER), (" ", "Why?", _ANSWER), ("u-1", "", _ANSWER), ("u-1", "Why?", " ")],
        ids=["no-subject", "blank-subject", "no-question", "blank-answer"],
    )
    async def test_exchange_without_words_is_refused_and_leaves_nothing(
        self, memory: Memory, tenant: str, subject: str, question: str, answer: str
    ) -> None:
        with pytest.raises(AgentError):
            await memory.remember(subject, question, answer, tenant_id=tenant)

        assert list(await memory.recall("u-1", "Why?", tenant_id=tenant)) == []

    async def test_recalling_nothing_or_for_nobody_is_refused(
        self, memory: Memory, tenant: str
    ) -> None:
        for subject, query, limit in (("", "Why?", 5), ("u-1", " ", 5), ("u-1", "Why?", 0)):
            with pytest.raises(AgentError):
                await memory.recall(subject, query, limit=limit, tenant_id=tenant)
        with pytest.raises(AgentError):
            await memory.recall("u-1", "Why?", limit=-1, tenant_id=tenant)

    @pytest.mark.parametrize("text", ["'; DROP TABLE x; --", "a:b/../*", "日本語 ?", "🙂 %_\\"])
    async def test_any_characters_may_be_remembered(
        self, memory: Memory, tenant: str, text: str
    ) -> None:
        await memory.remember("u-1", text, f"{text} {_ANSWER}", tenant_id=tenant)

        (recalled,) = await memory.recall("u-1", f"{text} {_ANSWER}", tenant_id=tenant)

        assert f"{text} {_ANSWER}" in recalled

    async def test_no_operation_without_a_tenant(self, memory: Memory) -> None:
        with pytest.raises(TenantRequiredError):
            await memory.remember("u-1", _QUESTION, _ANSWER)
        with pytest.raises(TenantRequiredError):
            await memory.recall("u-1", _QUESTION)

    @pytest.mark.parametrize("name", ["", "a:b", "*", "x" * 65])
    async def test_malformed_tenant_is_refused(
        self, memory: Memory, tenant: str, name: str
    ) -> None:
        with tenant_scope(tenant):
            with pytest.raises(InvalidIdentifierError):
                await memory.remember("u-1", _QUESTION, _ANSWER, tenant_id=name)
            with pytest.raises(InvalidIdentifierError):
                await memory.recall("u-1", _QUESTION, tenant_id=name)

            assert list(await memory.recall("u-1", _QUESTION)) == []

    async def test_tenant_of_the_scope_is_taken(self, memory: Memory, tenant: str) -> None:
        with tenant_scope(tenant):
            await memory.remember("u-1", _QUESTION, _ANSWER)

        assert len(await memory.recall("u-1", _QUESTION, tenant_id=tenant)) == 1

    async def test_cancelled_remembering_keeps_all_of_an_exchange_or_nothing(
        self, memory: Memory, tenant: str, gate: Gate
    ) -> None:
        def remember() -> Awaitable[None]:
            return memory.remember("u-1", _QUESTION, _ANSWER, tenant_id=tenant)

        await cancel_at(gate, remember, patience=self.patience)

        recalled = list(await memory.recall("u-1", _QUESTION, tenant_id=tenant))
        assert len(recalled) <= 1
        assert all(_ANSWER in text for text in recalled)

    async def test_every_operation_ends_with_the_deadline_of_its_caller(
        self, memory: Memory, tenant: str, gate: Gate
    ) -> None:
        def remember() -> Awaitable[object]:
            return memory.remember("u-1", _QUESTION, _ANSWER, tenant_id=tenant)

        def recall() -> Awaitable[object]:
            return memory.recall("u-1", _QUESTION, tenant_id=tenant)

        for operation in (remember, recall):
            await outlast_deadline_at(gate, operation, patience=self.patience)
