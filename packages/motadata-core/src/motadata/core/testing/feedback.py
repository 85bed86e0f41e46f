"""The contract of a feedback log as tests: subclass and give two fixtures.

class TestMine(FeedbackLogConformance):
@pytest.fixture
def feedback_log(self) -> FeedbackLog:
return Mine()

@pytest.fixture
def written_call(self) -> WrittenCall:
async def write(prompt: str, model: str, tenant_id: str) -> str:
...  # make the call known, and return its id

return write
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import uuid4

import pytest

from motadata.core.errors import TenantRequiredError, ValidationError
from motadata.core.identifiers import new_id
from motadata.core.models import CommonCorrection, Correction, Flag, Insight, Rating, Vote
from motadata.core.protocols import FeedbackLog
from motadata.core.tenancy import tenant_scope


WrittenCall = Callable[[str, str, str], Awaitable[str]]
"""Makes a call of a prompt, a model and a tenant known; returns its id."""

_GOOD: Final = Vote(useful=True)
_BAD: Final = Vote(useful=False)


class FeedbackLogConformance:
    """What every implementation of `motadata.core.protocols.FeedbackLog` must do."""

    @pytest.fixture
    def feedback_log(self) -> FeedbackLog:
        """Supply the implementation, empty of what other tests said."""
        message = "A subclass supplies the fixture `feedback_log`."
        raise NotImplementedError(message)

    @pytest.fixture
    def written_call(self) -> WrittenCall:
        """Supply how a call is made known."""
        message = "A subclass supplies the fixture `written_call`."
        raise NotImplementedError(message)

    @pytest.fixture
    def tenant(self) -> str:
        """Return a tenant of whom nothing is known."""
        return f"kit-{uuid4().hex}"

    async def test_repetition_is_kept_once_and_a_second_thought_replaces_the_first(
        self, feedback_log: FeedbackLog, written_call: WrittenCall, tenant: str
    ) -> None:
        call_id = await written_call("p@1", "m/a", tenant)

        receipts = [
            await feedback_log.record(call_id, signal, user="u-1", tenant_id=tenant)
            for signal in (_GOOD, _GOOD, _BAD)
        ]

        assert [each.outcome for each in receipts] == ["created", "unchanged", "updated"]
        assert len({each.feedback_id for each in receipts}) == 1
        (insight,) = (await feedback_log.insights(tenant_id=tenant)).insights
        assert (insight.approvals, insight.rejections) == (0, 1)

    async def test_same_words_at_once_are_kept_once(
        self, feedback_log: FeedbackLog, written_call: WrittenCall, tenant: str
    ) -> None:
        call_id = await written_call("p@1", "m/a", tenant)

        receipts = await asyncio.gather(
            *(feedback_log.record(call_id, _GOOD, user="u", tenant_id=tenant) for _ in range(8))
        )

        assert sorted(each.outcome for each in receipts) == ["created", *["unchanged"] * 7]

    async def test_own_ids_tell_users_without_a_name_apart(
        self, feedback_log: FeedbackLog, written_call: WrittenCall, tenant: str
    ) -> None:
        call_id, named = await written_call("p@1", "m/a", tenant), uuid4()
        ids = (named, uuid4(), named)

        receipts = [
            await feedback_log.record(call_id, Rating(4), feedback_id=each, tenant_id=tenant)
            for each in ids
        ]

        assert tuple(each.feedback_id for each in receipts) == ids
        (insight,) = (await feedback_log.insights(tenant_id=tenant)).insights
        assert insight.ratings == 2

    async def test_sums_are_apart_by_prompt_and_model_and_count_people_once_a_call(
        self, feedback_log: FeedbackLog, written_call: WrittenCall, tenant: str
    ) -> None:
        first = await written_call("p@1", "m/a", tenant)
        for user, signal in (
            ("u-1", Rating(5)),
            ("u-1", Flag("wrong")),
            ("u-2", Correction("Call them.")),
            ("u-3", Correction(" call THEM ")),
            ("u-4", Rating(3)),
            ("u-5", _GOOD),
        ):
            await feedback_log.record(first, signal, user=user, tenant_id=tenant)
        second = await written_call("p@2", "m/a", tenant)
        await feedback_log.record(second, _GOOD, tenant_id=tenant)

        insights = (await feedback_log.insights(tenant_id=tenant)).insights

        found: dict[str, Insight] = {each.prompt: each for each in insights}
        assert (found["p@1"].approvals, found["p@1"].rejections) == (1, 3)
        assert (found["p@1"].ratings, found["p@1"].mean_stars) == (2, 4.0)
        assert found["p@1"].corrections == (CommonCorrection(" call THEM ", 2),)
        assert found["p@1"].flags == {"wrong": 1}
        assert found["p@1"].low < 0.25 < found["p@1"].high
        assert (found["p@2"].approvals, found["p@2"].approval) == (1, 1.0)

    async def test_feedback_on_an_unknown_call_is_kept_and_counted_apart(
        self, feedback_log: FeedbackLog, tenant: str
    ) -> None:
        await feedback_log.record(str(new_id()), _GOOD, tenant_id=tenant)

        found = await feedback_log.insights(tenant_id=tenant)

        assert (found.insights, found.unlinked) == ((), 1)

    async def test_call_of_another_tenant_is_an_unknown_one(
        self, feedback_log: FeedbackLog, written_call: WrittenCall, tenant: str
    ) -> None:
        call_id = await written_call("p@1", "m/a", tenant)
        other = f"kit-{uuid4().hex}"

        await feedback_log.record(call_id, _GOOD, tenant_id=other)

        theirs = await feedback_log.insights(tenant_id=other)
        assert (theirs.insights, theirs.unlinked) == ((), 1)
        assert (await feedback_log.insights(tenant_id=tenant)).insights == ()

    async def test_period_narrows_the_sums(
        self, feedback_log: FeedbackLog, written_call: WrittenCall, tenant: str
    ) -> None:
        call_id = await written_call("p@1", "m/a", tenant)
        await feedback_log.record(call_id, _GOOD, tenant_id=tenant)
        hour_ago = datetime.now(UTC) - timedelta(hours=1)

        with tenant_scope(tenant):
            before = await feedback_log.insights(until=hour_ago)
            since = await feedback_log.insights(since=hour_ago)

        assert (len(before.insights), len(since.insights)) == (0, 1)

    async def test_what_cannot_be_kept_is_refused(
        self, feedback_log: FeedbackLog, tenant: str
    ) -> None:
        call_id = str(new_id())
        for signal in (Rating(0), Rating(6), Correction(" "), Correction("a\0b")):
            with pytest.raises(ValidationError):
                await feedback_log.record(call_id, signal, tenant_id=tenant)
        with pytest.raises(ValidationError):
            await feedback_log.record("", _GOOD, tenant_id=tenant)
        with pytest.raises(TenantRequiredError):
            await feedback_log.record(call_id, _GOOD)
        assert (await feedback_log.insights(tenant_id=tenant)).unlinked == 0
