"""Feedback on calls: kept once, linked to its call, added up, exported; on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import string
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motadata.core.database import PostgresDatabase, create_database
from motadata.core.errors import (
    ConfigurationError,
    InvalidIdentifierError,
    TenantRequiredError,
    ValidationError,
)
from motadata.core.identifiers import new_id
from motadata.core.models import (
    CommonCorrection,
    Correction,
    Flag,
    Insight,
    Message,
    Rating,
    Signal,
    Vote,
)
from motadata.core.protocols import FeedbackLog
from motadata.core.tenancy import tenant_scope
from motadata.core.testing.feedback import FeedbackLogConformance, WrittenCall
from motadata.core.testing.openai_server import OpenAIServer, Reply
from motadata.core.testing.plugin import DatabaseDsns
from motadata.gateway import Attribution, Governance, create_gateway
from motadata.gateway.feedback import Example, Feedback
from motadata.gateway.feedback._insights import wilson_interval
from motadata.gateway.feedback._signals import digest_of
from motadata.gateway.usage import UsageLog, UsagePolicy


GOOD, BAD = Vote(useful=True), Vote(useful=False)

CALL = """
insert into motadata.gateway_call
select (jsonb_populate_record(null::motadata.gateway_call, $1::jsonb)).*
"""
"""A row as the usage log writes it."""

PLAIN: dict[str, object] = {
    "operation": "chat",
    "user_id": "",
    "feature": "triage",
    "prompt": "triage@1",
    "model_asked": "openai/small",
    "model": "openai/small",
    "provider": "openai",
    "price_version": "",
    "seconds": 1,
    "streamed": False,
    "cached": "",
    "shared": False,
    "attempts": 1,
    "finish_reason": "stop",
    "error": "",
    "verdicts": [],
    "trace_id": "",
}


class Calls:
    """Writes calls down as the usage log does."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database

    async def write(
        self, tenant: str = "acme", call_id: str | None = None, **columns: object
    ) -> str:
        named = call_id or str(new_id())
        counts = await self._database.execute_query(
            "select column_name from information_schema.columns where table_schema = 'motadata'"
            " and table_name = 'gateway_call' and data_type = 'bigint'",
            tenant_id=tenant,
        )
        row = {str(count["column_name"]): 0 for count in counts} | PLAIN | columns
        row |= {"tenant_id": tenant, "call_id": named, "began_at": str(datetime.now(UTC))}
        await self._database.execute_query(CALL, row, tenant_id=tenant)
        return named


@pytest.fixture(autouse=True)
async def _empty(database: PostgresDatabase) -> None:
    for tenant in ("acme", "globex"):
        for table in ("feedback", "gateway_call"):
            await database.execute_query(f"delete from motadata.{table}", tenant_id=tenant)


@pytest.fixture
def feedback(database: PostgresDatabase) -> Feedback:
    return Feedback(database)


@pytest.fixture
def calls(database: PostgresDatabase) -> Calls:
    return Calls(database)


async def only_insight(feedback: Feedback) -> Insight:
    (insight,) = (await feedback.insights(tenant_id="acme")).insights
    return insight


async def examples(
    feedback: Feedback, *, tenant: str = "acme", prompt: str | None = None, agreement: int = 1
) -> list[Example]:
    found = feedback.examples(prompt=prompt, agreement=agreement, tenant_id=tenant)
    async with aclosing(found):
        return [example async for example in found]


class TestContract(FeedbackLogConformance):
    @pytest.fixture
    def feedback_log(self, feedback: Feedback) -> FeedbackLog:
        return feedback

    @pytest.fixture
    def written_call(self, calls: Calls) -> WrittenCall:
        async def write(prompt: str, model: str, tenant_id: str) -> str:
            return await calls.write(tenant_id, prompt=prompt, model=model)

        return write


async def test_call_and_its_feedback_meet_through_the_gateway(
    database: PostgresDatabase, feedback: Feedback, openai_server: OpenAIServer, tmp_path: Path
) -> None:
    openai_server.reply(Reply(text="Restart the spooler."))
    usage = UsageLog(database, tmp_path / "usage", UsagePolicy(texts=True))
    async with create_gateway(
        ["openai"],
        "openai/small",
        {"openai": "sk-1"},
        base_urls={"openai": openai_server.url},
        governance=Governance(usage=usage),
    ) as gateway:
        answer = await gateway.generate_async(
            "The printer is stuck.", attribution=Attribution(prompt="triage@7"), tenant_id="acme"
        )
        await feedback.record(answer.call_id, GOOD, user="u-1", tenant_id="acme")
        await usage.flush()

    insight = await only_insight(feedback)
    assert (insight.prompt, insight.model, insight.approvals) == ("triage@7", "openai/small", 1)
    (example,) = await examples(feedback)
    assert "The printer is stuck." in example.asked
    assert (example.expected, example.source) == ("Restart the spooler.", "approval")


async def test_feedback_that_is_faster_than_the_usage_log_is_kept_and_linked(
    feedback: Feedback, calls: Calls
) -> None:
    call_id = str(new_id())
    await feedback.record(call_id, GOOD, tenant_id="acme")
    early = await feedback.insights(tenant_id="acme")
    await calls.write(call_id=call_id)

    late = await feedback.insights(tenant_id="acme")

    assert (early.insights, early.unlinked) == ((), 1)
    assert (late.insights[0].approvals, late.unlinked) == (1, 0)


async def test_feedback_outlives_the_retention_of_its_call(
    feedback: Feedback, calls: Calls, database: PostgresDatabase
) -> None:
    await feedback.record(await calls.write(prompt="triage@3"), GOOD, tenant_id="acme")
    await database.execute_query("delete from motadata.gateway_call", tenant_id="acme")

    insight = await only_insight(feedback)

    assert (insight.prompt, insight.approvals) == ("triage@3", 1)


@pytest.mark.parametrize(
    "signal",
    [GOOD, BAD, Rating(5), Rating(3, "so-so"), Correction("Call them."), Flag("harmful", "Look.")],
)
async def test_signal_is_read_as_it_was_given(
    feedback: Feedback, calls: Calls, signal: Signal
) -> None:
    call_id = await calls.write()
    await feedback.record(call_id, signal, user="u-1", tenant_id="acme")
    assert await feedback.of_call(call_id, tenant_id="acme") == (("u-1", signal),)


async def test_id_of_other_feedback_is_refused(feedback: Feedback, calls: Calls) -> None:
    named = uuid4()
    await feedback.record(await calls.write(), GOOD, feedback_id=named, tenant_id="acme")

    with pytest.raises(ValidationError, match="belongs to feedback of another call"):
        await feedback.record(await calls.write(), GOOD, feedback_id=named, tenant_id="acme")


async def test_approval_counts_each_person_once_a_call(feedback: Feedback, calls: Calls) -> None:
    call_id = await calls.write()
    for signal in (Rating(1), BAD, Correction("Call them."), Flag("wrong")):
        await feedback.record(call_id, signal, user="u-1", tenant_id="acme")
    for number in range(2, 5):
        await feedback.record(call_id, Rating(number + 1), user=f"u-{number}", tenant_id="acme")

    insight = await only_insight(feedback)

    low, high = wilson_interval(2, 3)
    expected = Insight(
        prompt="triage@1",
        model="openai/small",
        approvals=2,
        rejections=1,
        approval=2 / 3,
        low=low,
        high=high,
        ratings=4,
        mean_stars=(1 + 3 + 4 + 5) / 4,
        corrections=(CommonCorrection("Call them.", 1),),
        flags={"wrong": 1},
    )
    assert insight == expected


async def test_insights_are_apart_by_prompt_version_and_model(
    feedback: Feedback, calls: Calls
) -> None:
    for prompt, model, signal in (
        ("triage@1", "openai/small", GOOD),
        ("triage@2", "openai/small", BAD),
        ("triage@2", "openai/large", GOOD),
        ("triage@2", "openai/large", GOOD),
    ):
        call_id = await calls.write(prompt=prompt, model=model)
        await feedback.record(call_id, signal, tenant_id="acme")

    found = (await feedback.insights(tenant_id="acme")).insights

    assert [(each.prompt, each.model, each.approvals, each.rejections) for each in found] == [
        ("triage@2", "openai/large", 2, 0),
        ("triage@1", "openai/small", 1, 0),
        ("triage@2", "openai/small", 0, 1),
    ]


async def test_common_corrections_are_grouped_whatever_their_case_and_blanks(
    feedback: Feedback, calls: Calls
) -> None:
    texts = ("Restart it.", "  restart   IT ", "RESTART IT!", "Call them.", "Wait.")
    for number, text in enumerate(texts):
        call_id = await calls.write()
        await feedback.record(call_id, Correction(text), user=f"u-{number}", tenant_id="acme")

    found = await feedback.insights(most_corrections=2, tenant_id="acme")

    assert found.insights[0].corrections == (
        CommonCorrection("RESTART IT!", 3),
        CommonCorrection("Wait.", 1),
    )


async def test_one_tenant_never_sees_or_changes_feedback_of_another(
    feedback: Feedback, calls: Calls, tmp_path: Path
) -> None:
    # The same call id and feedback id on both sides, as only an attacker would make them.
    call_id, named = str(new_id()), uuid4()
    for tenant, text in (("acme", "acme's words"), ("globex", "globex's words")):
        await calls.write(tenant, call_id, asked=f"{tenant} asks", answered=f"{tenant} hears")
        await feedback.record(
            call_id, Correction(text), user="u-1", feedback_id=named, tenant_id=tenant
        )

    for tenant, other in (("acme", "globex"), ("globex", "acme")):
        seen = repr(
            [
                await feedback.insights(tenant_id=tenant),
                await feedback.of_call(call_id, tenant_id=tenant),
                await examples(feedback, tenant=tenant),
            ]
        )
        assert tenant in seen
        assert other not in seen
    assert await feedback.erase_user("u-1", tenant_id="acme") == 1
    assert len(await feedback.of_call(call_id, tenant_id="globex")) == 1


async def test_row_level_security_alone_keeps_rows_apart(
    feedback: Feedback, calls: Calls, database_dsns: DatabaseDsns
) -> None:
    await feedback.record(await calls.write(), GOOD, tenant_id="acme")

    async with create_database(database_dsns.runtime, max_connections=1) as other:
        rows = await other.execute_query("select * from motadata.feedback", tenant_id="globex")
        own = await other.execute_query("select * from motadata.feedback", tenant_id="acme")

    assert (len(rows), len(own)) == (0, 1)


async def test_examples_are_what_people_corrected_or_approved_of(
    feedback: Feedback, calls: Calls
) -> None:
    said = {
        "approved": (GOOD,),
        "corrected": (BAD, Correction("Better.")),
        "disputed": (GOOD, BAD),
        "neutral": (Rating(3),),
    }
    for asked, signals in said.items():
        call_id = await calls.write(asked=asked, answered="Said.")
        for number, signal in enumerate(signals):
            await feedback.record(call_id, signal, user=f"u-{number}", tenant_id="acme")

    found = await examples(feedback)

    assert [(each.asked, each.expected, each.source) for each in found] == [
        ("approved", "Said.", "approval"),
        ("corrected", "Better.", "correction"),
    ]


async def test_calls_whose_texts_were_not_kept_or_that_failed_are_no_examples(
    feedback: Feedback, calls: Calls
) -> None:
    for columns in (
        {},
        {"asked": "a", "answered": "b", "error": "provider_error"},
        {"asked": "a", "answered": "b", "finish_reason": "length"},
        {"asked": "a", "answered": ""},
    ):
        await feedback.record(await calls.write(**columns), GOOD, tenant_id="acme")
    assert await examples(feedback) == []


async def test_agreement_asks_for_as_many_people(feedback: Feedback, calls: Calls) -> None:
    call_id = await calls.write(asked="How?", answered="So.")
    for user, text in (("u-1", "Thus."), ("u-2", "thus"), ("u-3", "Otherwise.")):
        await feedback.record(call_id, Correction(text), user=user, tenant_id="acme")

    twice = await examples(feedback, agreement=2)
    thrice = await examples(feedback, agreement=3)

    assert [each.expected for each in twice] == ["thus"]
    assert thrice == []


async def test_examples_of_one_prompt_only(feedback: Feedback, calls: Calls) -> None:
    for prompt in ("triage@1", "triage@2"):
        call_id = await calls.write(prompt=prompt, asked="How?", answered="So.")
        await feedback.record(call_id, GOOD, tenant_id="acme")
    found = await examples(feedback, prompt="triage@2")
    assert [each.prompt for each in found] == ["triage@2"]


async def test_examples_come_page_by_page_and_once_each(
    feedback: Feedback, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("motadata.gateway.feedback._feedback._PAGE", 2)
    made = []
    for number in range(5):
        made.append(await calls.write(asked=str(number), answered="So."))
        for user in ("u-1", "u-2"):
            await feedback.record(made[-1], GOOD, user=user, tenant_id="acme")

    assert [str(each.call_id) for each in await examples(feedback)] == sorted(made)


async def test_export_writes_an_evaluation_set(
    feedback: Feedback, calls: Calls, tmp_path: Path
) -> None:
    call_id = await calls.write(asked="How?\nQuickly, ünd \u2028 so.", answered="So.")
    await feedback.record(call_id, Correction('Thus: "x"\n'), tenant_id="acme")

    written = await feedback.export(tmp_path / "set.jsonl", tenant_id="acme")

    (line,) = (tmp_path / "set.jsonl").read_bytes().split(b"\n")[:-1]
    assert written == 1
    assert json.loads(line) == {
        "id": call_id,
        "input": "How?\nQuickly, ünd \u2028 so.",
        "expected": 'Thus: "x"\n',
        "source": "correction",
        "answered": "So.",
        "metadata": {"prompt": "triage@1", "model": "openai/small", "feature": "triage"},
    }
    assert (tmp_path / "set.jsonl").stat().st_mode & 0o777 == 0o600


async def test_export_writes_few_shots(feedback: Feedback, calls: Calls, tmp_path: Path) -> None:
    call_id = await calls.write(asked="How?", answered="So.")
    await feedback.record(call_id, GOOD, tenant_id="acme")

    await feedback.export(tmp_path / "shots.jsonl", form="few_shot", tenant_id="acme")

    turns = [{"role": "user", "content": "How?"}, {"role": "assistant", "content": "So."}]
    assert json.loads((tmp_path / "shots.jsonl").read_text()) == {"messages": turns}
    (example,) = await examples(feedback)
    assert example.messages() == (Message("user", "How?"), Message("assistant", "So."))


async def test_export_that_fails_leaves_the_old_file(
    feedback: Feedback, calls: Calls, database: PostgresDatabase, tmp_path: Path
) -> None:
    path = tmp_path / "set.jsonl"
    await asyncio.to_thread(path.write_text, "old")
    await feedback.record(await calls.write(asked="a", answered="b"), GOOD, tenant_id="acme")

    with pytest.raises(ValidationError):
        await feedback.export(path, agreement=0, tenant_id="acme")
    async with asyncio.timeout(10):
        export = asyncio.create_task(feedback.export(path, tenant_id="acme"))
        await asyncio.sleep(0)
        export.cancel()
        with pytest.raises(asyncio.CancelledError):
            await export

    assert await asyncio.to_thread(path.read_text) == "old"
    assert await asyncio.to_thread(lambda: [each.name for each in tmp_path.iterdir()]) == [
        "set.jsonl"
    ]


async def test_export_into_no_folder_is_a_typed_error(feedback: Feedback, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be written"):
        await feedback.export(tmp_path / "none" / "set.jsonl", tenant_id="acme")
    with pytest.raises(ValidationError, match="'csv' is no form"):
        await feedback.export(tmp_path / "set.csv", form="csv", tenant_id="acme")  # type: ignore[arg-type]  # as callers do


async def test_old_feedback_is_deleted_on_request(feedback: Feedback, calls: Calls) -> None:
    await feedback.record(await calls.write(), GOOD, tenant_id="acme")
    await feedback.record(await calls.write("globex"), GOOD, tenant_id="globex")
    soon = datetime.now(UTC) + timedelta(minutes=1)

    assert await feedback.delete_before(soon - timedelta(days=1), tenant_id="acme") == 0
    assert await feedback.delete_before(soon, tenant_id="acme") == 1
    assert len((await feedback.insights(tenant_id="globex")).insights) == 1


@pytest.mark.parametrize(
    ("signal", "problem"),
    [
        (Rating(0), "stars='0'"),
        (Rating(6), "stars='6'"),
        (Rating(True), "stars='True'"),
        (Rating(4.5), "stars='4.5'"),  # type: ignore[arg-type]  # as callers do
        (Rating(4, "x" * 2001), "comment has 2001 characters"),
        (Vote(useful="yes"), "useful='yes'"),  # type: ignore[arg-type]  # as callers do
        (Correction(" \n"), "correction is empty"),
        (Correction("x" * 20_001), "correction has 20001 characters"),
        (Correction("a\0b"), "holds NUL"),
        (Correction("a\ud800b"), "half of a surrogate pair"),
        (Correction(7), "correction is a int"),  # type: ignore[arg-type]  # as callers do
        (Flag("ugly"), "'ugly' is no reason"),  # type: ignore[arg-type]  # as callers do
        ("good", "A str is no feedback"),
    ],
)
async def test_signal_that_cannot_be_kept_is_refused(
    feedback: Feedback, signal: Signal, problem: str
) -> None:
    with pytest.raises(ValidationError, match=problem):
        await feedback.record(str(new_id()), signal, tenant_id="acme")


async def test_error_never_repeats_what_people_wrote(feedback: Feedback) -> None:
    with pytest.raises(ValidationError) as caught:
        await feedback.record(str(new_id()), Correction("secret\0words"), tenant_id="acme")
    assert "secret" not in str(caught.value)


async def test_bad_arguments_are_typed_errors(feedback: Feedback) -> None:
    with pytest.raises(TenantRequiredError):
        await feedback.record(str(new_id()), GOOD)
    with pytest.raises(InvalidIdentifierError):
        await feedback.insights(tenant_id="a b")
    for call_id in ("", "none", 7):
        with pytest.raises(ValidationError, match="is no id of a call"):
            await feedback.record(call_id, GOOD, tenant_id="acme")  # type: ignore[arg-type]  # as callers do
    for user in ("x" * 201, "a\nb", None):
        with pytest.raises(ValidationError, match="user"):
            await feedback.record(str(new_id()), GOOD, user=user, tenant_id="acme")  # type: ignore[arg-type]  # as callers do
    with pytest.raises(ValidationError, match="since is no moment"):
        await feedback.insights(since=datetime(2026, 1, 1), tenant_id="acme")  # noqa: DTZ001 - the mistake
    for number in (-1, 101, True):
        with pytest.raises(ValidationError, match="most_corrections"):
            await feedback.insights(most_corrections=number, tenant_id="acme")


async def test_tenant_of_the_scope_counts(feedback: Feedback, calls: Calls) -> None:
    call_id = await calls.write()
    with tenant_scope("acme"):
        await feedback.record(call_id, GOOD)
        assert len((await feedback.insights()).insights) == 1


def test_wilson_interval_is_the_published_one() -> None:
    # From R: binom.confint(c(0, 8, 10, 81), c(10, 10, 10, 263), method = "wilson")
    published = {
        (0, 10): (0.0, 0.277533),
        (8, 10): (0.490162, 0.943318),
        (10, 10): (0.722467, 1.0),
        (81, 263): (0.255273, 0.366155),
    }
    for (approvals, judgements), ends in published.items():
        assert wilson_interval(approvals, judgements) == pytest.approx(ends, abs=2e-4)
    assert wilson_interval(0, 0) == (0.0, 1.0)


@given(st.integers(0, 10_000), st.integers(1, 10_000))
def test_wilson_interval_holds_the_share(approvals: int, judgements: int) -> None:
    approvals = min(approvals, judgements)
    low, high = wilson_interval(approvals, judgements)
    assert 0 <= low <= approvals / judgements + 1e-12
    assert approvals / judgements - 1e-12 <= high <= 1


@given(st.text(max_size=50))
def test_corrections_are_alike_apart_from_case_blanks_and_ends(text: str) -> None:
    around = f"  {text.upper().lower()}\t\n"
    assert digest_of(around) == digest_of(text.upper().lower())
    assert digest_of(text.replace(" ", " \n ")) == digest_of(text)


@given(st.text(alphabet=string.ascii_letters, min_size=1), st.text(alphabet="xyz0", min_size=1))
def test_corrections_of_other_words_are_not_alike(text: str, more: str) -> None:
    assert digest_of(text) != digest_of(f"{text} {more}")


def test_corrections_of_marks_only_are_told_apart() -> None:
    assert digest_of("!!!") != digest_of("???")


def test_example_is_a_plain_record() -> None:
    example = Example(UUID(int=1), "a", "b", "approval", "b", "p@1", "m", "f")
    assert replace(example, asked="c")["asked"] == "c"
