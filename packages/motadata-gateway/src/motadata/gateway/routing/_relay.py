"""A streamed answer that survives its provider: no part is said twice, none is left out."""

from __future__ import annotations

import time
from asyncio import Timeout

from motadata.core.errors import ProviderError
from motadata.core.models import CompletionChunk
from motadata.gateway._call import Emit


class DivergedError(ProviderError):
    """Another provider's answer begins with other words than those that were said already."""


class Relay:
    """Passes parts on to one reader, whoever says them.

    When a provider breaks off, the next one's answer is compared with what was said. It is passed
    on from there if it begins with exactly that, else it is no continuation.

    Attributes:
        heard: When the reader got its last part; the reading of `time.monotonic`.
        timer: What limits the wait for the next part that the reader gets.
    """

    __slots__ = ("_ahead", "_emit", "_said", "heard", "timer")

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._said: list[str] = []
        self._ahead = ""
        self.heard = time.monotonic()
        self.timer: Timeout | None = None

    @property
    def said(self) -> bool:
        """Whether the reader has got a part."""
        return bool(self._said)

    def begin(self) -> None:
        """Expect an answer from its beginning."""
        self._ahead = "".join(self._said)
        self._said = [self._ahead] if self._ahead else []

    def alive(self) -> None:
        """Note that the provider is at work, though there is nothing to pass on yet."""
        if self.timer is not None:
            self.timer.reschedule(None)
            self.timer = None
        self.heard = time.monotonic()

    async def __call__(self, part: CompletionChunk) -> None:
        """Pass on what the reader does not have yet.

        Raises:
            DivergedError: The answer is not the one that was begun.
        """
        if self._ahead:
            repeated = min(len(self._ahead), len(part.text))
            ends = part.finish_reason is not None and repeated < len(self._ahead)
            if part.text[:repeated] != self._ahead[:repeated] or ends:
                message = "The answer was cut off, and another provider's does not continue it."
                raise DivergedError(message, remedy="Ask again.", retryable=True)
            self._ahead = self._ahead[repeated:]
            if repeated == len(part.text) and part.finish_reason is None:
                return
            part = CompletionChunk(
                part.text[repeated:],
                part.finish_reason,
                part.tool_calls,
                part.usage,
                model=part.model,
                call_id=part.call_id,
            )
        self.alive()
        if part.text:
            self._said.append(part.text)
        await self._emit(part)
        self.heard = time.monotonic()
