"""Answers as objects: the model is held to a schema, checked, and told what was wrong."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from pydantic import BaseModel
from pydantic import ValidationError as ShapeError

from motadata.core.errors import (
    ContentPolicyError,
    ContextLengthError,
    GuardrailError,
    OutputFormatError,
    ProviderError,
    ValidationError,
)
from motadata.core.models import Completion, Message
from motadata.gateway._schemas import schema_of


Output = TypeVar("Output", bound=BaseModel)

_FENCED: Final = re.compile(r"```(?:json)?\s*\n(.*?)\n?```", re.DOTALL | re.IGNORECASE)
_OPENING: Final = re.compile(r"[{\[]")
_MOST_PROBLEMS: Final = 10
_MOST_STARTS: Final = 20
_REPAIR: Final = (
    "Your answer does not fit the schema:\n{problems}\n"
    "Answer again with the corrected JSON only, without any other word."
)
_INSTRUCTION: Final = (
    "Answer with one JSON value that follows this JSON schema, without any other word:\n{schema}"
)


@dataclass(frozen=True, slots=True)
class Structured(Generic[Output]):
    """An answer that took the form that was asked for.

    Attributes:
        value: The answer itself.
        completion: The model's last answer, as text, with its usage.
        attempts: How many answers it took.
    """

    value: Output
    completion: Completion
    attempts: int


class Ask(Protocol):
    """Asks the model once."""

    async def __call__(
        self, messages: Sequence[Message], schema: dict[str, object] | None
    ) -> Completion:
        """Return its answer to the messages, held to the schema when there is one."""
        ...


async def structured(
    ask: Ask,
    messages: Sequence[Message],
    output: type[Output],
    *,
    most_attempts: int,
    timeout: float,
) -> Structured[Output]:
    """Ask until the answer is an `output`, at most `most_attempts` times.

    A provider that refuses the schema is asked again with the schema in words.

    Raises:
        OutputFormatError: No answer fitted; the message names the places, never what stood there.
        ContentPolicyError: The model refused to answer.
        ProviderError: It was cut off, or the time is over.
    """
    attempts: object = most_attempts
    if not isinstance(attempts, int) or attempts < 1:
        message = f"most_attempts={attempts!r} is no positive number of attempts."
        raise ValidationError(message, remedy="Pass 1 or more.")
    kind: object = output
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        message = f"{kind!r} is no model of pydantic."
        raise ValidationError(message, remedy="Pass a subclass of pydantic.BaseModel.")
    schema = schema_of(output)
    try:
        async with asyncio.timeout(timeout):
            return await _attempted(ask, list(messages), output, schema, most_attempts)
    except TimeoutError as error:
        message = f"No answer of the form {output.__name__} came within {timeout:g} s."
        raise ProviderError(message, remedy="Raise `timeout`.", retryable=True) from error


async def _attempted(
    ask: Ask,
    messages: list[Message],
    output: type[Output],
    schema: dict[str, object],
    most_attempts: int,
) -> Structured[Output]:
    sent: dict[str, object] | None = schema
    problems = ""
    for attempt in range(1, most_attempts + 1):
        try:
            answer = await ask(messages, sent)
        except (ContextLengthError, GuardrailError):
            raise
        except ValidationError:
            if sent is None:
                raise
            sent = None
            messages = [
                Message("system", _INSTRUCTION.format(schema=json.dumps(schema))),
                *messages,
            ]
            answer = await ask(messages, None)
        _check_end(answer)
        try:
            return Structured(parsed(answer.text, output), answer, attempt)
        except ShapeError as error:
            problems, feedback = _problems(error), _feedback(error)
        messages = [
            *messages,
            Message("assistant", answer.text),
            Message("user", _REPAIR.format(problems=feedback)),
        ]
    message = f"No answer of {most_attempts} took the form {output.__name__}:\n{problems}"
    raise OutputFormatError(message, remedy="Use a stronger model, or a simpler form.")


def parsed(text: str, output: type[Output]) -> Output:
    """Return the first JSON value in a text that is an `output`; fences and prose are passed over.

    Raises:
        pydantic.ValidationError: There is none; it tells what is wrong with the last one.
    """
    fenced = _FENCED.search(text)
    whole = (fenced.group(1) if fenced else text).strip()
    try:
        return output.model_validate_json(whole)
    except ShapeError as error:
        if error.errors(include_url=False)[0]["type"] != "json_invalid":
            raise
        problem = error
    decoder = json.JSONDecoder()
    end = 0
    for start in list(_OPENING.finditer(whole))[:_MOST_STARTS]:
        if start.start() < end:
            continue
        try:
            value, end = decoder.raw_decode(whole, start.start())
        except (ValueError, RecursionError):
            continue
        try:
            return output.model_validate(value)
        except ShapeError as error:
            problem = error
    raise problem


def _check_end(answer: Completion) -> None:
    if answer.finish_reason == "content_filter":
        message = f"The model {answer.model!r} refused to answer."
        raise ContentPolicyError(message, remedy="Ask for something else, or another model.")
    if answer.finish_reason == "length":
        message = f"The answer of {answer.model!r} was cut off before its form was complete."
        raise ProviderError(message, remedy="Raise `max_tokens`.")


def _feedback(error: ShapeError) -> str:
    """List places and what is wrong there, for the model, whose own words may be repeated."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    lines = [
        f"- {'.'.join(map(str, problem['loc'])) or 'the whole'}: {problem['msg']}"
        for problem in found[:_MOST_PROBLEMS]
    ]
    return "\n".join(lines)


def _problems(error: ShapeError) -> str:
    """List places and the rules that they break, for the error: a message might hold the answer."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    lines = [
        f"- {'.'.join(map(str, problem['loc'])) or 'the whole'}: {_expected(problem['type'])}"
        for problem in found[:_MOST_PROBLEMS]
    ]
    return "\n".join(lines)


def _expected(kind: str) -> str:
    known = {"missing": "is missing", "json_invalid": "is no JSON", "extra_forbidden": "is unknown"}
    return known.get(kind, f"breaks the rule {kind!r}")
