"""The form of an answer: JSON after a schema, an expression for the whole, its length."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from typing import Protocol

from motadata.core.errors import ConfigurationError, MissingExtraError
from motadata.core.protocols import Finding, FindingAction, GuardedText, StreamReach
from motadata.gateway.guardrails._patterns import compiled
from motadata.gateway.guardrails._rule import TextRule, check_action


class _Validator(Protocol):
    def is_valid(self, value: object) -> bool: ...


class JsonFormat(TextRule):
    """Refuses answers that are no JSON, or do not follow a schema.

    A streamed answer waits for its end.

    Args:
        schema: JSON schema (draft 2020-12 unless it names another); None asks for any JSON.
        action: `refuse` or `flag`; only flagged, a streamed answer does not wait.
        name: Name of the rule.

    Raises:
        ConfigurationError: The schema is none, or the action does not fit.
        MissingExtraError: There is a schema, and the extra `guardrails` is not installed.
    """

    def __init__(
        self,
        schema: Mapping[str, object] | None = None,
        action: FindingAction = "refuse",
        *,
        name: str = "format.json",
    ) -> None:
        check_whole_action(action, what=name)
        self._validator = None if schema is None else _validator(schema)
        self._action: FindingAction = action
        reach: StreamReach = "afterwards" if action == "flag" else "whole"
        described = (action, json.dumps(schema, sort_keys=True, default=str))
        super().__init__(name, described=described, reach=reach, roles={"answer"})

    def find(self, text: GuardedText) -> Sequence[Finding]:
        """Return one finding when the text has not the form."""
        try:
            value: object = json.loads(text.text)
        except (ValueError, RecursionError):
            return [Finding(self.name, self._action)]
        fits = self._validator is None or self._validator.is_valid(value)
        return [] if fits else [Finding(self.name, self._action)]


class PatternFormat(TextRule):
    """Refuses answers that an expression (RE2) does not match as a whole.

    A streamed answer waits for its end.

    Args:
        pattern: At most 1,000 characters.
        action: `refuse` or `flag`.
        name: Name of the rule.

    Raises:
        ConfigurationError: RE2 cannot take the expression, or the action does not fit.
        MissingExtraError: The extra `guardrails` is not installed.
    """

    def __init__(
        self, pattern: str, action: FindingAction = "refuse", *, name: str = "format.pattern"
    ) -> None:
        check_whole_action(action, what=name)
        self._pattern = compiled(pattern, of=name)
        self._action: FindingAction = action
        reach: StreamReach = "afterwards" if action == "flag" else "whole"
        super().__init__(name, described=(pattern, action), reach=reach, roles={"answer"})

    def find(self, text: GuardedText) -> Sequence[Finding]:
        """Return one finding when the text does not match."""
        matches = self._pattern.fullmatch(text.text) is not None
        return [] if matches else [Finding(self.name, self._action)]


class Length(TextRule):
    """Refuses texts that are too short or too long.

    A streamed answer is refused at the character that is too many; with a least length it waits for
    its end.

    Args:
        least: Fewest characters.
        most: Most characters; None means any number.
        action: `refuse` or `flag`.
        name: Name of the rule.

    Raises:
        ConfigurationError: The numbers leave no length, or the action does not fit.
    """

    def __init__(
        self,
        *,
        least: int = 0,
        most: int | None = None,
        action: FindingAction = "refuse",
        name: str = "format.length",
    ) -> None:
        check_whole_action(action, what=name)
        if least < 0 or (most is not None and most < max(least, 1)):
            message = f"No text has at least {least} and at most {most} characters."
            raise ConfigurationError(message, remedy="Pass 0 <= least <= most.")
        self._least, self._most = least, most
        self._action: FindingAction = action
        reach: StreamReach = (
            "window" if least == 0 else "afterwards" if action == "flag" else "whole"
        )
        super().__init__(name, described=(least, most, action), reach=reach)

    def find(self, text: GuardedText) -> Sequence[Finding]:
        """Return one finding when the text is too short or too long."""
        length = text.offset + len(text.text)
        if self._most is not None and length > self._most:
            start = max(0, self._most - text.offset)
            return [Finding(self.name, self._action, start, len(text.text))]
        short = text.final and length < self._least
        return [Finding(self.name, self._action)] if short else []


def check_whole_action(action: str, *, what: str) -> None:
    """Refuse an action that cannot be done to a text as a whole.

    Raises:
        ConfigurationError: It is neither flag nor refuse.
    """
    check_action(action, what=what)
    if action not in ("flag", "refuse"):
        message = f"{what!r} judges whole texts, which cannot be masked."
        raise ConfigurationError(message, remedy="Use flag or refuse.")


def _validator(schema: Mapping[str, object]) -> _Validator:
    try:
        library = importlib.import_module("jsonschema_rs")
    except ModuleNotFoundError as error:
        package = "jsonschema-rs"
        raise MissingExtraError(
            package, extra="guardrails", distribution="motadata-gateway"
        ) from error
    try:
        made: _Validator = library.validator_for(dict(schema))
    except (library.ValidationError, library.ReferencingError, ValueError, TypeError) as error:
        message = "The schema of the format is no JSON schema."
        raise ConfigurationError(message, remedy="Correct it.") from error
    return made
