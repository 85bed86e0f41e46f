"""Expressions of customers, run by RE2 alone, in linear time; extra `guardrails`."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterator, Sequence
from typing import Final, Protocol

from motadata.core.errors import ConfigurationError, MissingExtraError
from motadata.core.protocols import Finding, FindingAction, GuardedText
from motadata.gateway.guardrails._rule import TextRule, check_action


_MOST_MEMORY: Final = 8 << 20
_LONGEST: Final = 1_000


class Found(Protocol):
    """Where an expression matched."""

    def start(self) -> int:
        """Return the offset of its first character."""
        ...

    def end(self) -> int:
        """Return the offset behind its last one."""
        ...


class Expression(Protocol):
    """A compiled expression."""

    def finditer(self, text: str) -> Iterator[Found]:
        """Yield where it matches, without overlaps."""
        ...

    def fullmatch(self, text: str) -> Found | None:
        """Tell whether it matches the whole text."""
        ...


class ForbiddenPattern(TextRule):
    """Finds what matches an expression of yours, in RE2's syntax.

    In a streamed answer it finds what has at most 64 characters.

    Args:
        name: Name of the rule.
        pattern: At most 1,000 characters; RE2 has no look-around and no back-references.
        action: What to do with what is found.
        mark: What stands in its place when it is masked.
        roles: What to read; None means everything.

    Raises:
        ConfigurationError: RE2 cannot take the expression, or the action does not exist.
        MissingExtraError: The extra `guardrails` is not installed.
    """

    def __init__(
        self,
        name: str,
        pattern: str,
        action: FindingAction = "mask",
        *,
        mark: str = "[removed]",
        roles: Collection[str] | None = None,
    ) -> None:
        check_action(action, what=name)
        self._pattern = compiled(pattern, of=name)
        self._action: FindingAction = action
        self._mark = mark
        super().__init__(name, described=(pattern, action, mark), roles=roles)

    def find(self, text: GuardedText) -> Sequence[Finding]:
        """Return where the expression matches."""
        return [
            Finding(self.name, self._action, found.start(), found.end(), self._mark)
            for found in self._pattern.finditer(text.text)
            if found.start() < found.end()
        ]


def compiled(pattern: str, *, of: str) -> Expression:
    """Return an expression ready to run.

    Args:
        pattern: In RE2's syntax.
        of: Whose it is, for the error.

    Raises:
        ConfigurationError: RE2 cannot take it.
        MissingExtraError: The extra `guardrails` is not installed.
    """
    try:
        re2 = importlib.import_module("re2")
    except ModuleNotFoundError as error:
        package = "google-re2"
        raise MissingExtraError(
            package, extra="guardrails", distribution="motadata-gateway"
        ) from error
    options = re2.Options()
    options.max_mem = _MOST_MEMORY
    options.log_errors = False
    if len(pattern) > _LONGEST:
        message = f"The expression of {of!r} has {len(pattern)} characters."
        raise ConfigurationError(message, remedy=f"Use at most {_LONGEST}.")
    try:
        expression: Expression = re2.compile(pattern, options=options)
    except re2.error as error:
        message = f"RE2 cannot take the expression {pattern[:80]!r} of {of!r}."
        remedy = "Leave out look-around and back-references."
        raise ConfigurationError(message, remedy=remedy) from error
    return expression
