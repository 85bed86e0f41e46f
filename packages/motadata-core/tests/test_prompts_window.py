from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motadata.core.errors import ContextWindowError
from motadata.core.models import Message, Passage, ToolCall
from motadata.core.prompts import (
    BuiltContext,
    ContextItem,
    ContextWindow,
    EstimatedTokens,
    count_message,
)


COUNTER = EstimatedTokens()
MODEL = "any"


class OneEach:
    """Counts a token a character, so that tests can add up."""

    def count(self, text: str, *, model: str) -> int:
        return len(text)


def user(content: str) -> Message:
    return Message("user", content)


def answer(content: str) -> Message:
    return Message("assistant", content)


def call(*ids: str, content: str = "") -> Message:
    calls = tuple(ToolCall(call_id, "look_up", "{}") for call_id in ids)
    return Message("assistant", content, tool_calls=calls)


def result(call_id: str, content: str = "found") -> Message:
    return Message("tool", content, tool_call_id=call_id)


def build(budget: int, *items: ContextItem | Message) -> BuiltContext:
    return ContextWindow(budget, model=MODEL, counter=OneEach()).build(items)


def contents(context: BuiltContext) -> list[str]:
    return [message.content for message in context.messages]


def test_everything_stays_when_there_is_room() -> None:
    messages = [Message("system", "s"), user("a"), answer("b"), user("c")]

    built = build(1000, *messages)

    assert built.messages == tuple(messages)
    assert (built.tokens, built.dropped) == (4 * 4 + 4, ())


def test_conversation_loses_its_beginning_and_never_its_middle() -> None:
    middle = answer("x" * 50)

    built = build(60, Message("system", "s"), user("old"), middle, answer("new"), user("last"))

    assert contents(built) == ["s", "new", "last"]
    assert [(item.index, item.reason) for item in built.dropped] == [(1, "budget"), (2, "budget")]
    assert built.dropped[1].tokens == 54


def test_higher_priority_gets_room_before_newer_history() -> None:
    fact = ContextItem(user("fact"), priority=5)

    built = build(26, fact, answer("old"), answer("new"), user("last"))

    assert contents(built) == ["fact", "new", "last"]


def test_system_messages_and_last_user_turn_are_in_whatever_their_priority() -> None:
    built = build(
        24,
        ContextItem(Message("system", "rules"), priority=-9),
        ContextItem(user("question"), priority=-9),
        ContextItem(answer("long" * 9), priority=9),
    )

    assert contents(built) == ["rules", "question"]


def test_what_must_be_in_and_does_not_fit_is_an_error_with_both_figures() -> None:
    with pytest.raises(ContextWindowError, match="take 54 tokens, and the budget is 20") as caught:
        build(20, user("hunter2" + "x" * 43))

    assert "hunter2" not in str(caught.value)


def test_tool_call_stays_or_goes_with_all_its_results() -> None:
    exchange = [call("1", "2"), result("1"), result("2", "x" * 30)]

    kept = build(200, user("a"), *exchange, user("b"))
    gone = build(60, user("a"), *exchange, user("b"))

    assert kept.messages == (user("a"), *exchange, user("b"))
    assert contents(gone) == ["b"]


def test_half_of_an_exchange_is_left_out_and_named() -> None:
    built = build(
        500, result("0"), call("1", "2"), result("1"), call("3"), result("3"), user("b"), call("4")
    )

    assert built.messages == (call("3"), result("3"), user("b"))
    assert [(item.index, item.reason) for item in built.dropped] == [
        *((0, "unpaired"), (1, "unpaired"), (2, "unpaired"), (6, "unpaired"))
    ]


def test_passages_and_tool_calls_count() -> None:
    bare = count_message(user("a"), OneEach(), model=MODEL)
    with_passage = Message("user", "a", passages=(Passage(1, "x" * 100, title="t" * 10),))

    assert bare == 5
    assert count_message(with_passage, OneEach(), model=MODEL) >= 115
    assert count_message(call("1"), OneEach(), model=MODEL) >= 4 + len("1look_up{}")


@pytest.mark.parametrize(("budget", "reserve"), [(0, 0), (100, 100), (100, -1)])
def test_budget_of_nothing_is_refused(budget: int, reserve: int) -> None:
    with pytest.raises(ContextWindowError, match=str(budget)):
        ContextWindow(budget, model=MODEL, counter=COUNTER, reserve=reserve)


def test_reserve_for_the_answer_stays_free() -> None:
    window = ContextWindow(100, model=MODEL, counter=OneEach(), reserve=70)

    built = window.build([answer("x" * 30), user("b")])

    assert (built.budget, contents(built)) == (30, ["b"])


def test_too_many_messages_are_refused() -> None:
    with pytest.raises(ContextWindowError, match="10001 messages"):
        build(10**9, *([user("a")] * 10_001))


def test_no_messages_are_no_context() -> None:
    assert build(10).messages == ()


@st.composite
def conversations(draw: st.DrawFn) -> list[ContextItem]:
    messages: list[Message] = []
    text = st.text(max_size=40)
    for position in range(draw(st.integers(0, 14))):
        kind = draw(st.sampled_from(["system", "user", "assistant", "exchange", "orphan", "open"]))
        ids = [f"{position}-{number}" for number in range(draw(st.integers(1, 3)))]
        if kind == "exchange":
            messages += [call(*ids, content=draw(text))]
            messages += [result(call_id, draw(text)) for call_id in draw(st.permutations(ids))]
        elif kind == "orphan":
            messages.append(result(ids[0], draw(text)))
        elif kind == "open":
            messages += [call(*ids), *(result(call_id) for call_id in ids[1:])]
        elif kind == "system":
            messages.append(Message("system", draw(text)))
        else:
            messages.append(user(draw(text)) if kind == "user" else answer(draw(text)))
    return [ContextItem(message, draw(st.integers(-1, 2))) for message in messages]


@given(items=conversations(), budget=st.integers(1, 400))
def test_budget_order_and_pairs_hold_for_any_conversation(
    items: list[ContextItem], budget: int
) -> None:
    try:
        built = ContextWindow(budget, model=MODEL, counter=COUNTER).build(items)
    except ContextWindowError:
        system = [item.message for item in items if item.message.role == "system"]
        users = [item.message for item in items if item.message.role == "user"]
        needed = [*system, *users[-1:]]
        assert sum(count_message(one, COUNTER, model=MODEL) for one in needed) > budget
        return

    # Never above the budget, and what is said about it is true.
    tokens = sum(count_message(message, COUNTER, model=MODEL) for message in built.messages)
    assert built.tokens == tokens <= budget

    # Everything is either in, in its order, or named as dropped.
    gone = {item.index for item in built.dropped}
    assert built.messages == tuple(
        item.message for index, item in enumerate(items) if index not in gone
    )

    # Required ones are in.
    last_user = max((n for n, item in enumerate(items) if item.message.role == "user"), default=-1)
    system = {n for n, item in enumerate(items) if item.message.role == "system"}
    assert not gone & (system | {last_user})

    # Each call has its results, each result its call.
    called = [one.id for message in built.messages for one in message.tool_calls]
    answered = [message.tool_call_id for message in built.messages if message.role == "tool"]
    assert sorted(called) == sorted(str(one) for one in answered)


@given(items=conversations(), budget=st.integers(1, 400), more=st.integers(0, 200))
def test_larger_budget_never_shows_fewer_tokens(
    items: list[ContextItem], budget: int, more: int
) -> None:
    try:
        small = ContextWindow(budget, model=MODEL, counter=COUNTER).build(items)
    except ContextWindowError:
        return
    large = ContextWindow(budget + more, model=MODEL, counter=COUNTER).build(items)

    if not any(item.reason == "budget" for item in small.dropped):
        assert large.messages == small.messages
