"""Chooses what fits into a model's context, whole messages and whole exchanges at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from motadata.core.errors import ContextWindowError
from motadata.core.models import Message, Record
from motadata.core.prompts._tokens import TokenCounter, count_message


DropReason = Literal["budget", "unpaired"]

_MOST_MESSAGES: Final = 10_000


@dataclass(frozen=True, slots=True)
class ContextItem(Record):
    """A message that may go into the window.

    Attributes:
        priority: The higher, the sooner it gets room; of one priority the newer comes first.
    """

    message: Message
    priority: int = 0


@dataclass(frozen=True, slots=True)
class DroppedMessage(Record):
    """A message that is not in the window.

    Attributes:
        index: Where it was among the items.
        tokens: How many it would have taken.
        reason: `budget`: there was no room; `unpaired`: a tool call without its results, or a
            result without its call, which providers refuse.
    """

    index: int
    tokens: int
    reason: DropReason


@dataclass(frozen=True, slots=True)
class BuiltContext(Record):
    """What fits: messages in their order, and what was left out.

    Attributes:
        tokens: What the messages take; never more than `budget`.
    """

    messages: tuple[Message, ...]
    tokens: int
    budget: int
    dropped: tuple[DroppedMessage, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class _Group:
    """Messages that stay together or go together."""

    indexes: tuple[int, ...]
    priority: int
    tokens: int
    required: bool


class ContextWindow:
    """Builds what is sent to a model within a budget of tokens.

    System messages and the last user turn are always in. The rest gets room by priority and, within
    one priority, from the newest backwards: where one no longer fits, the older ones of its
    priority are left out with it, so that a conversation loses its beginning and never its middle.
    A tool call stays with all its results.

    Args:
        budget: Tokens for all messages.
        model: For whom they are counted.
        counter: Who counts them.
        reserve: Tokens of the budget that stay free, for the answer.

    Raises:
        ContextWindowError: Nothing is left of the budget.
    """

    def __init__(self, budget: int, *, model: str, counter: TokenCounter, reserve: int = 0) -> None:
        if reserve < 0 or budget <= reserve:
            message = f"Of a budget of {budget} tokens, {reserve} are reserved."
            raise ContextWindowError(message, remedy="Leave some for the messages.")
        self._budget = budget - reserve
        self._model = model
        self._counter = counter

    def build(self, items: Iterable[ContextItem | Message]) -> BuiltContext:
        """Return the messages that fit, in their order; a bare message has priority 0.

        It counts every message on the calling thread: about 3 ms for 1000 of them with estimates.
        For long histories and a counter that is slower, call it with `asyncio.to_thread`.

        Raises:
            ContextWindowError: The system messages and the last user turn alone do not fit, or
                there are more than 10,000 messages.
        """
        given = [item if isinstance(item, ContextItem) else ContextItem(item) for item in items]
        if len(given) > _MOST_MESSAGES:
            message = f"There are {len(given)} messages to choose from."
            raise ContextWindowError(message, remedy=f"Pass at most {_MOST_MESSAGES}.")
        costs = [count_message(item.message, self._counter, model=self._model) for item in given]
        groups, unpaired = _group(given, costs)
        kept = self._choose(groups)
        dropped = [DroppedMessage(index, costs[index], "unpaired") for index in unpaired]
        dropped += [
            DroppedMessage(index, costs[index], "budget")
            for group in groups
            for index in group.indexes
            if index not in kept
        ]
        return BuiltContext(
            messages=tuple(given[index].message for index in sorted(kept)),
            tokens=sum(costs[index] for index in kept),
            budget=self._budget,
            dropped=tuple(sorted(dropped, key=lambda item: item.index)),
        )

    def _choose(self, groups: Sequence[_Group]) -> set[int]:
        required = [group for group in groups if group.required]
        left = self._budget - sum(group.tokens for group in required)
        if left < 0:
            message = (
                f"System messages and the last user turn take {self._budget - left} tokens,"
                f" and the budget is {self._budget}."
            )
            raise ContextWindowError(message, remedy="Shorten them, or raise the budget.")
        kept = {index for group in required for index in group.indexes}
        full: set[int] = set()
        others = (group for group in groups if not group.required)
        for group in sorted(others, key=lambda group: (-group.priority, -group.indexes[0])):
            if group.priority in full:
                continue
            if group.tokens > left:
                full.add(group.priority)
                continue
            left -= group.tokens
            kept.update(group.indexes)
        return kept


def _group(items: Sequence[ContextItem], costs: Sequence[int]) -> tuple[list[_Group], list[int]]:
    """Return the groups in their order, and the indexes of what has lost its other half."""
    last_user = max(
        (index for index, item in enumerate(items) if item.message.role == "user"), default=-1
    )
    members: dict[int, list[int]] = {}
    waiting: dict[str, int] = {}
    missing: dict[int, int] = {}
    unpaired: list[int] = []
    for index, item in enumerate(items):
        call_id = item.message.tool_call_id
        if item.message.role == "tool":
            caller = waiting.pop(call_id or "", None)
            if caller is None:
                unpaired.append(index)
            else:
                members[caller].append(index)
                missing[caller] -= 1
            continue
        members[index] = [index]
        calls = {call.id for call in item.message.tool_calls}
        if calls:
            missing[index] = len(calls)
            waiting.update(dict.fromkeys(calls, index))
    groups = []
    for first, indexes in members.items():
        if missing.get(first):
            unpaired += indexes
            continue
        groups.append(
            _Group(
                indexes=tuple(indexes),
                priority=max(items[index].priority for index in indexes),
                tokens=sum(costs[index] for index in indexes),
                required=items[first].message.role == "system" or first == last_user,
            )
        )
    return groups, unpaired
