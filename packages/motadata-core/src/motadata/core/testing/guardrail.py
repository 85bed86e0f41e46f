"""The contract of a guardrail as tests: subclass and give three fixtures.

    class TestMine(GuardrailConformance):
        @pytest.fixture
        async def guardrail(self) -> AsyncIterator[Guardrail]:
            yield Mine()

        @pytest.fixture
        def harmless(self) -> str:
            return "The printer is out of paper."

        @pytest.fixture
        def objectionable(self) -> str:
            return "The project is called Bluebird."

`objectionable` has one thing to find, of at most 64 characters when the guardrail's reach is
`window`. Both are read as answers of the tenant `acme`; a subclass whose guardrail reads inputs
overrides `stage` and `role`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final, get_args

import pytest

from motadata.core.protocols import (
    STREAM_WINDOW,
    Finding,
    FindingAction,
    GuardedStage,
    GuardedText,
    Guardrail,
    StreamReach,
)


_PATIENCE: Final = 30.0
_HOSTILE: Final = ("a", " ", "@", "1 ", "a@a.", "(", "\u200b", "e\u0301", "-----BEGIN ", "a:")
_SIZES: Final = (4_000, 64_000)
# Sixteen times the text in at most sixty times the time: what is quadratic takes 256 times.
_MOST_GROWTH: Final = 60
_TOO_SHORT_TO_TELL: Final = 0.02


class GuardrailConformance:
    """What every implementation of `motadata.core.protocols.Guardrail` must do."""

    @pytest.fixture
    def guardrail(self) -> Guardrail:
        """Supply the implementation."""
        message = "A subclass supplies the fixture `guardrail`."
        raise NotImplementedError(message)

    @pytest.fixture
    def harmless(self) -> str:
        """Supply a text in which it finds nothing."""
        message = "A subclass supplies the fixture `harmless`."
        raise NotImplementedError(message)

    @pytest.fixture
    def objectionable(self) -> str:
        """Supply a text in which it finds something."""
        message = "A subclass supplies the fixture `objectionable`."
        raise NotImplementedError(message)

    @pytest.fixture
    def stage(self) -> GuardedStage:
        """Supply what is judged: an answer, unless a subclass says otherwise."""
        return "output"

    @pytest.fixture
    def role(self) -> str:
        """Supply the role of what is judged."""
        return "answer"

    async def test_it_has_a_name_a_revision_and_a_known_reach(self, guardrail: Guardrail) -> None:
        assert guardrail.name
        assert guardrail.revision
        assert guardrail.reach in get_args(StreamReach)

    async def test_harmless_text_has_no_findings(
        self, guardrail: Guardrail, harmless: str, stage: GuardedStage, role: str
    ) -> None:
        assert list(await _checked(guardrail, harmless, stage, role)) == []

    async def test_findings_name_a_rule_and_lie_within_the_text(
        self, guardrail: Guardrail, objectionable: str, stage: GuardedStage, role: str
    ) -> None:
        found = await _checked(guardrail, objectionable, stage, role)

        assert found
        for finding in found:
            assert finding.rule
            assert finding.action in get_args(FindingAction)
            assert 0 <= finding.start <= finding.end <= len(objectionable)

    async def test_findings_hold_nothing_of_the_text(
        self, guardrail: Guardrail, objectionable: str, stage: GuardedStage, role: str
    ) -> None:
        for finding in await _checked(guardrail, objectionable, stage, role):
            found = objectionable[finding.start : finding.end]
            assert not found or found not in f"{finding.rule} {finding.mark}"

    async def test_same_text_is_judged_the_same_whatever_was_read_between(
        self,
        guardrail: Guardrail,
        harmless: str,
        objectionable: str,
        stage: GuardedStage,
        role: str,
    ) -> None:
        first = await _checked(guardrail, objectionable, stage, role)
        await _checked(guardrail, harmless, stage, role, tenant="globex")
        again = await _checked(guardrail, objectionable, stage, role)

        assert list(again) == list(first)

    async def test_texts_judged_at_once_do_not_mix(
        self,
        guardrail: Guardrail,
        harmless: str,
        objectionable: str,
        stage: GuardedStage,
        role: str,
    ) -> None:
        texts = [harmless, objectionable] * 20
        found = await asyncio.gather(*(_checked(guardrail, text, stage, role) for text in texts))

        assert [bool(one) for one in found] == [False, True] * 20

    async def test_judging_after_a_cancelled_one_is_whole(
        self, guardrail: Guardrail, objectionable: str, stage: GuardedStage, role: str
    ) -> None:
        first = await _checked(guardrail, objectionable, stage, role)
        task = asyncio.create_task(_checked(guardrail, objectionable * 50, stage, role))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task}, timeout=_PATIENCE)

        assert list(await _checked(guardrail, objectionable, stage, role)) == list(first)

    async def test_what_is_found_in_a_stream_is_found_when_the_window_is_full(
        self,
        guardrail: Guardrail,
        harmless: str,
        objectionable: str,
        stage: GuardedStage,
        role: str,
    ) -> None:
        if guardrail.reach != "window":
            pytest.skip("It sees whole texts only.")
        behind = " " + (harmless + " ") * (STREAM_WINDOW // len(harmless) + 1)
        text = objectionable + behind
        about = GuardedText(text=text, stage=stage, tenant_id="acme", role=role, final=False)

        assert await guardrail.check(about)

    @pytest.mark.parametrize("unit", _HOSTILE)
    async def test_time_grows_no_faster_than_the_text(
        self, guardrail: Guardrail, unit: str, stage: GuardedStage, role: str
    ) -> None:
        short, long = [
            await _seconds(guardrail, (unit * size)[:size], stage, role) for size in _SIZES
        ]

        assert long < max(short * _MOST_GROWTH, _TOO_SHORT_TO_TELL * _MOST_GROWTH)


async def _checked(
    guardrail: Guardrail, text: str, stage: GuardedStage, role: str, *, tenant: str = "acme"
) -> Sequence[Finding]:
    about = GuardedText(text=text, stage=stage, tenant_id=tenant, role=role)
    async with asyncio.timeout(_PATIENCE):
        return await guardrail.check(about)


async def _seconds(guardrail: Guardrail, text: str, stage: GuardedStage, role: str) -> float:
    start = time.process_time()
    await _checked(guardrail, text, stage, role)
    return time.process_time() - start
