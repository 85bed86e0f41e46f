"""What is said to a language model: messages, passages of source text, tools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from motadata.core.models._record import Record


Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Passage(Record):
    """A piece of somebody's document that a model may use, and must not obey.

    Passages travel apart from the instructions, with their provenance, so that whoever renders them
    for a model marks them as data. A model cites one by its number in brackets, `[2]`.

    Attributes:
        number: How the model cites it, from 1.
        text: The words of the source.
        title: Title of the document it comes from.
        heading: Heading above it in that document.
    """

    number: int
    text: str
    title: str = ""
    heading: str | None = None


@dataclass(frozen=True, slots=True)
class ToolCall(Record):
    """A model's wish to call a tool; `arguments` is the JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message(Record):
    """One turn of a conversation with a language model.

    Attributes:
        passages: Untrusted source text that belongs to this turn; see `Passage`.
        tool_calls: What an assistant's turn asks for.
        tool_call_id: Which call a tool's turn answers.
    """

    role: Role
    content: str
    passages: tuple[Passage, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


@dataclass(frozen=True, slots=True)
class ToolDefinition(Record):
    """A function that a model may ask for; `parameters` is the JSON schema of its arguments."""

    name: str
    description: str
    parameters: Mapping[str, object] = field(default_factory=dict)
