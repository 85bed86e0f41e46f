"""What is asked of a provider: validated, complete, the same whichever provider serves it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar, get_args

from motadata.core.errors import ValidationError
from motadata.core.models import Message, Passage, Role, ToolDefinition
from motadata.core.protocols import CachePolicy


_TOOL_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_MODEL_NAME: Final = re.compile(r"[!-~]{1,200}", re.ASCII)
_MAX_TIMEOUT: Final = 86_400.0
_MOST_STOPS: Final = 4
_TOOL_CHOICES: Final = ("auto", "none", "required")
_ROLES: Final = frozenset(get_args(Role))
_POLICIES: Final = frozenset(get_args(CachePolicy))

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatOptions:
    """What a conversation is asked to keep to, beyond the usual.

    Attributes:
        tool_choice: `auto`, `none`, `required`, or the name of the tool to call; None leaves it to
            the provider.
        top_p: 0 to 1; None leaves it to the provider.
        stop: At most four texts at which the answer ends.
        seed: The same seed asks for the same answer, where the provider can.
        output_schema: JSON schema that the answer's text is to follow; None asks for plain text.
    """

    tool_choice: str | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    output_schema: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A conversation that a model is to continue.

    Attributes:
        model: Full name, `provider/model`.
        max_tokens: Most tokens of the answer; None leaves it to the provider.
    """

    model: str
    messages: tuple[Message, ...]
    temperature: float | None = None
    max_tokens: int | None = None
    tools: tuple[ToolDefinition, ...] = ()
    options: ChatOptions = ChatOptions()


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """Texts that are to become vectors, at least one, none empty."""

    model: str
    texts: tuple[str, ...]


def as_messages(prompt: str | Sequence[Message]) -> tuple[Message, ...]:
    """Return a prompt as messages: a string is one turn of the user.

    Raises:
        ValidationError: It is neither a text nor a sequence.
    """
    if isinstance(prompt, str):
        return (Message("user", prompt),)
    return as_tuple(prompt, what="prompt", remedy="Pass a text, or a list of Message.")


def as_texts(texts: Sequence[str]) -> tuple[str, ...]:
    """Return texts as a tuple.

    Raises:
        ValidationError: It is a single string, whose characters nobody wants to embed.
    """
    if isinstance(texts, str):
        raise ValidationError("embed takes a sequence of texts.", remedy="Pass [text].")
    return as_tuple(texts, what="texts", remedy="Pass a list of texts.")


def as_tuple(items: Sequence[Item], *, what: str, remedy: str) -> tuple[Item, ...]:
    """Return what a caller passed as a sequence, which may be of any type all the same.

    Raises:
        ValidationError: It is none.
    """
    try:
        return tuple(items)
    except TypeError:
        message = f"What was passed as {what} is a {type(items).__name__}."
        raise ValidationError(message, remedy=remedy) from None


def check_messages(messages: Sequence[Message]) -> None:
    """Refuse what is no conversation.

    Raises:
        ValidationError: There is no message, or one is malformed.
    """
    if not messages:
        raise ValidationError("There is no message.", remedy="Pass a prompt or messages.")
    for position, message in enumerate(messages):
        if not _is_message(message):
            problem = f"Message {position} is a {type(message).__name__}, no Message."
            raise ValidationError(problem, remedy="Build it with motadata.core.models.Message.")
        _check_message(position, message)


def check_chat(request: ChatRequest) -> None:
    """Refuse what no model can answer.

    Raises:
        ValidationError: There is no message, one is malformed, or a parameter is out of range.
    """
    check_model(request.model)
    check_messages(request.messages)
    _check_number("temperature", request.temperature, low=0, high=2)
    _check_number("max_tokens", request.max_tokens, low=1, high=10_000_000)
    if request.max_tokens is not None and not _is_integer(request.max_tokens):
        message_ = f"max_tokens={request.max_tokens!r} is no integer."
        raise ValidationError(message_, remedy="Pass a whole number.")
    if request.tools or request.options.tool_choice is not None:
        _check_tools(request)
    _check_options(request.options)


def _check_options(options: ChatOptions) -> None:
    _check_number("top_p", options.top_p, low=0, high=1)
    if options.seed is not None and not _is_integer(options.seed):
        raise ValidationError("The seed is no integer.", remedy="Pass a whole number.")
    if len(options.stop) > _MOST_STOPS or not all(_is_string(end) and end for end in options.stop):
        raise ValidationError("`stop` is not one to four texts.", remedy="Pass up to 4 texts.")


def _check_tools(request: ChatRequest) -> None:
    for position, tool in enumerate(request.tools):
        if not _is_tool(tool):
            problem = f"Tool {position} is a {type(tool).__name__}, no ToolDefinition."
            raise ValidationError(problem, remedy="Build it with core's ToolDefinition.")
    names = [tool.name for tool in request.tools]
    for name in names:
        if not _is_string(name) or _TOOL_NAME.fullmatch(name) is None:
            message_ = f"{name!r} is no name for a tool."
            raise ValidationError(message_, remedy="Use 1 to 64 letters, digits, '_' and '-'.")
    if len(set(names)) < len(names):
        raise ValidationError("Two tools have the same name.", remedy="Name each differently.")
    choice = request.options.tool_choice
    if choice is not None and choice not in (*_TOOL_CHOICES, *names):
        message_ = f"tool_choice={choice[:64]!r} is none of the tools."
        raise ValidationError(message_, remedy="Pass auto, none, required or the name of a tool.")


def check_embedding(request: EmbeddingRequest) -> None:
    """Refuse texts that have no vector.

    Raises:
        ValidationError: A text is empty or no string.
    """
    check_model(request.model)
    for position, text in enumerate(request.texts):
        if not _is_string(text) or not text.strip():
            message = f"Text {position} is empty or no string."
            raise ValidationError(message, remedy="Leave empty texts out.")


def check_options(*, timeout: float, cache: str) -> None:
    """Refuse a time limit or cache policy that does not exist.

    Raises:
        ValidationError: `timeout` is not positive and finite, or `cache` is no `CachePolicy`.
    """
    if not (_is_number(timeout) and 0 < timeout <= _MAX_TIMEOUT):
        message = f"timeout={timeout!r} is no number of seconds."
        raise ValidationError(message, remedy="Pass more than 0 and at most 86400.")
    if cache not in _POLICIES:
        message = f"cache={cache!r} is no cache policy."
        raise ValidationError(message, remedy="Use 'use', 'refresh' or 'bypass'.")


def _check_message(position: int, message: Message) -> None:
    if message.role not in _ROLES:
        problem = f"Message {position} has the role {message.role!r}."
        raise ValidationError(problem, remedy="Use system, user, assistant or tool.")
    if message.role == "tool" and not message.tool_call_id:
        problem = f"Message {position} answers no tool call."
        raise ValidationError(problem, remedy="Set tool_call_id to the id of the call.")
    texts = _is_string(message.content) and all(map(_is_passage, message.passages))
    if not texts:
        problem = f"The content of message {position} is no text, or a passage is no Passage."
        raise ValidationError(problem, remedy="Pass a text, and passages as core's Passage.")
    if message.role in ("system", "user") and not message.content.strip() and not message.passages:
        problem = f"Message {position} is empty."
        raise ValidationError(problem, remedy="Give it content or leave it out.")
    if message.passages:
        _check_numbers(position, message)


def _check_numbers(position: int, message: Message) -> None:
    numbers = [passage.number for passage in message.passages]
    if len(set(numbers)) < len(numbers) or any(number < 1 for number in numbers):
        problem = f"The passages of message {position} are not numbered apart from 1."
        raise ValidationError(problem, remedy="Give each passage a positive number of its own.")


def check_model(model: str) -> None:
    """Refuse what cannot be the name of a model.

    Raises:
        ValidationError: It is no text of printable characters, or nothing follows the slash.
    """
    if not _is_string(model) or _MODEL_NAME.fullmatch(model) is None or model.endswith("/"):
        message = f"{model if not _is_string(model) else model[:200]!r} is no name of a model."
        raise ValidationError(message, remedy="Name it like 'openai/gpt-4o-mini'.")


def _check_number(name: str, value: float | None, *, low: float, high: float) -> None:
    if value is None:
        return
    if not _is_number(value) or not math.isfinite(value) or not low <= value <= high:
        message = f"{name}={value!r} is out of range."
        raise ValidationError(message, remedy=f"Pass {low:g} to {high:g}, or leave it out.")


# These take an object, since a caller without a type checker may pass one of any type.
def _is_message(value: object) -> bool:
    return isinstance(value, Message)


def _is_passage(value: object) -> bool:
    return isinstance(value, Passage)


def _is_tool(value: object) -> bool:
    return isinstance(value, ToolDefinition)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_integer(value: object) -> bool:
    return isinstance(value, int)


def _is_string(value: object) -> bool:
    return isinstance(value, str)
