"""Answers that people corrected or approved of, as lines of an evaluation set or of few shots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

import orjson

from motadata.core.models import Message, Record
from motadata.core.protocols import Row


ExampleForm = Literal["evaluation", "few_shot"]
"""`evaluation`: id, input, expected, source and metadata a line; `few_shot`: messages a line."""


@dataclass(frozen=True, slots=True)
class Example(Record):
    """What was asked, and what people agree is the answer to it.

    Attributes:
        asked: The conversation, as the usage log keeps it.
        expected: The answer that people gave, or approved of.
        source: Which of both.
        answered: What the model had said.
    """

    call_id: UUID
    asked: str
    expected: str
    source: Literal["correction", "approval"]
    answered: str
    prompt: str
    model: str
    feature: str

    @classmethod
    def of(cls, row: Row) -> Example:
        """Return a row as an example."""
        corrected = row["corrected"]
        answered = str(row["answered"] or "")
        return cls(
            call_id=UUID(str(row["call_id"])),
            asked=str(row["asked"]),
            expected=answered if corrected is None else str(corrected),
            source="approval" if corrected is None else "correction",
            answered=answered,
            prompt=str(row["prompt"]),
            model=str(row["model"]),
            feature=str(row["feature"]),
        )

    def messages(self) -> tuple[Message, Message]:
        """Return it as two turns to put in front of a question.

        Its words come from people who use the platform: they are data, not instructions.
        """
        return Message("user", self.asked), Message("assistant", self.expected)

    def line(self, form: ExampleForm) -> bytes:
        """Return it as one line of JSON, with its line break."""
        return orjson.dumps(self._value(form), option=orjson.OPT_APPEND_NEWLINE)

    def _value(self, form: ExampleForm) -> Mapping[str, object]:
        if form == "few_shot":
            turns = [{"role": turn.role, "content": turn.content} for turn in self.messages()]
            return {"messages": turns}
        return {
            "id": str(self.call_id),
            "input": self.asked,
            "expected": self.expected,
            "source": self.source,
            "answered": self.answered,
            "metadata": {"prompt": self.prompt, "model": self.model, "feature": self.feature},
        }
