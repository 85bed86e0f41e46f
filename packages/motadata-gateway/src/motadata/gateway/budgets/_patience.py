"""Questions to the record, one after the other, none of which holds its asker for long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Final, Generic, TypeVar


Answer = TypeVar("Answer")

_ENDING: Final = 1.0


class Patience(Generic[Answer]):
    """Waits for a question as long as it may take, and leaves it behind when it takes longer.

    A database that hangs takes its time to roll back, too, and nobody shall wait for that. The next
    question is asked when the one before has ended: what that one still does cannot come later.

    Args:
        timeout: Seconds for a question, the end of the one before included.
    """

    __slots__ = ("_question", "_timeout")

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._question: asyncio.Task[Answer] | None = None

    async def answer(self, ask: Callable[[], Coroutine[object, object, Answer]]) -> Answer:
        """Ask, and return what comes of it; only one caller at a time.

        Raises:
            TimeoutError: It took longer, or `close` ended it; it was cancelled, or not even asked.
        """
        end = time.monotonic() + self._timeout
        if not await self._is_over(self._timeout):
            raise TimeoutError
        # Not in the caller's context: its deadline is not that of those who stand behind it.
        question = asyncio.create_task(ask(), name="gateway-budget", context=Context())
        self._question = question
        question.add_done_callback(self._ended)
        try:
            over = await self._is_over(end - time.monotonic())
        except BaseException:
            question.cancel()
            raise
        if not over or question.cancelled():
            question.cancel()
            raise TimeoutError
        return question.result()

    async def close(self) -> None:
        """Cancel a question that has not ended, and wait a moment for its end."""
        if self._question is not None:
            self._question.cancel()
            await self._is_over(_ENDING)

    async def _is_over(self, seconds: float) -> bool:
        if self._question is not None:
            await asyncio.wait({self._question}, timeout=seconds)
        return self._question is None

    def _ended(self, question: asyncio.Task[Answer]) -> None:
        self._question = None
        if not question.cancelled():
            question.exception()  # nobody may be there any more to look at it
