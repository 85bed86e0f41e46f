"""What a rendering may cost, and the meter that holds it to that."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final

from motadata.core.errors import ConfigurationError, PromptLimitError


_ITEM: Final = 8
"""What a value costs besides its characters."""
_STEP: Final = 16
"""What one turn of a loop costs, in characters."""


@dataclass(frozen=True, slots=True)
class PromptLimits:
    """How much a template may take, so that no template and no value brings a process down.

    Attributes:
        max_template: Characters of a template's text.
        max_input: Characters of all its variables together.
        max_output: Characters of the prompt.
        max_work: Characters that filters and loops may go through on the way, a turn of a loop
            counting 16.
        timeout: Seconds for one rendering.
    """

    max_template: int = 65_536
    max_input: int = 1_000_000
    max_output: int = 1_000_000
    max_work: int = 10_000_000
    timeout: float = 2.0

    def __post_init__(self) -> None:
        """Refuse limits that let nothing through."""
        for name in (field.name for field in fields(self)):
            if not getattr(self, name) > 0:
                message = f"The limit {name}={getattr(self, name)!r} is not positive."
                raise ConfigurationError(message, remedy="Pass a number above 0.")


class Meter:
    """Counts the work of one rendering, and ends it at a limit."""

    __slots__ = ("_deadline", "_limits", "_output", "_work")

    def __init__(self, limits: PromptLimits) -> None:
        self._limits = limits
        self._work = 0
        self._output = 0
        self._deadline = time.monotonic() + limits.timeout

    def turn(self) -> None:
        """Count one turn of a loop."""
        self.work(_STEP)

    def weigh(self, value: object, *, times: int = 1) -> None:
        """Count what a plain value has in it, `times` over; stops in the middle when too much."""
        pending = [value]
        while pending:
            part = pending.pop()
            self.work(((len(part) if isinstance(part, str) else 0) + _ITEM) * times)
            if isinstance(part, Mapping):
                pending += [*part.keys(), *part.values()]
            elif isinstance(part, list | tuple):
                pending += part

    def work(self, characters: int) -> None:
        """Count characters that were gone through.

        Raises:
            PromptLimitError: It was too much, or the time is over.
        """
        self._work += characters
        if self._work > self._limits.max_work:
            message = f"Rendering takes more than max_work={self._limits.max_work} characters."
            raise PromptLimitError(message, remedy="Give it less to go through.")
        self._check_time()

    def output(self, characters: int) -> None:
        """Count characters of the prompt.

        Raises:
            PromptLimitError: It is too long, or the time is over.
        """
        self._output += characters
        if self._output > self._limits.max_output:
            message = f"The prompt is longer than max_output={self._limits.max_output} characters."
            raise PromptLimitError(message, remedy="Shorten its variables.")
        self._check_time()

    def _check_time(self) -> None:
        if time.monotonic() > self._deadline:
            message = f"Rendering takes longer than timeout={self._limits.timeout:g} s."
            raise PromptLimitError(message, remedy="Give it less to go through.")
