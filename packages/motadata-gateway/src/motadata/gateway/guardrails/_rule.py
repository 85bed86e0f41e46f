"""What the guardrails of this package share: they find things in a text without waiting."""

from __future__ import annotations

import asyncio
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import Final, get_args

from motadata.core.errors import ConfigurationError
from motadata.core.protocols import Finding, FindingAction, GuardedText, StreamReach


# Above this many characters a text is read in a thread, so that the event loop stays free.
_LONG: Final = 20_000
# Part of every revision: raised when the rules of this package begin to judge otherwise.
_GENERATION: Final = 1
_ACTIONS: Final = frozenset(get_args(FindingAction))


class TextRule(ABC):
    """A guardrail that judges by the text alone.

    Args:
        name: Name its rules begin with.
        described: Everything that decides how it judges; makes up its revision.
        reach: How much of a streamed answer it must see.
        roles: What it reads; None means everything.
    """

    def __init__(
        self,
        name: str,
        *,
        described: Sequence[object],
        reach: StreamReach = "window",
        roles: Collection[str] | None = None,
    ) -> None:
        self.name = name
        self.reach: StreamReach = reach
        self._roles = None if roles is None else frozenset(roles)
        parts = (_GENERATION, name, reach, sorted(roles or ()), *described)
        self.revision = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    async def check(self, text: GuardedText) -> Sequence[Finding]:
        """Return what was found; a long text is read in a thread."""
        if is_short(text):
            return self.findings(text)
        return await asyncio.to_thread(self.findings, text)

    def findings(self, text: GuardedText) -> Sequence[Finding]:
        """Return what was found, if the text is one of those that it reads."""
        if self._roles is not None and text.role not in self._roles:
            return ()
        return self.find(text)

    @abstractmethod
    def find(self, text: GuardedText) -> Sequence[Finding]:
        """Return what was found, in time linear in the text's length."""


def is_short(text: GuardedText) -> bool:
    """Tell whether a text may be read on the event loop."""
    return len(text.text) <= _LONG


def check_action(action: str, *, what: str) -> None:
    """Refuse an action that does not exist.

    Raises:
        ConfigurationError: It is none of flag, mask, tokenise, refuse.
    """
    if action not in _ACTIONS:
        message = f"The action {action!r} of {what} does not exist."
        raise ConfigurationError(message, remedy="Use flag, mask, tokenise or refuse.")


def check_choice(names: Collection[str], known: Collection[str], *, what: str) -> None:
    """Refuse names that mean nothing.

    Raises:
        ConfigurationError: One of them is unknown, or they are a single string.
    """
    if isinstance(names, str):
        message = f"{what}={names!r} is a string."
        raise ConfigurationError(message, remedy=f"Pass [{names!r}].")
    unknown = sorted(set(names) - set(known))
    if unknown:
        message = f"{what} has the unknown name {unknown[0]!r}."
        raise ConfigurationError(message, remedy=f"Choose among {', '.join(sorted(known))}.")
