"""The offline embedding model off the event loop: loaded once, on few threads, fair to callers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from motadata.core.errors import GatewayError
from motadata.gateway import _weights


if TYPE_CHECKING:
    from motadata.gateway._minilm import MiniLM, Slice

Vector = tuple[float, ...]
Result = TypeVar("Result")


class OfflineEmbedder:
    """all-MiniLM-L6-v2 behind one or two threads.

    A batch is worked on in slices of a fraction of a second, each queued behind those of other
    callers: a question does not wait for the end of a large batch, and a cancelled caller's batch
    ends with the slice at hand.

    Args:
        threads: How many slices are worked on at once.
    """

    def __init__(self, *, threads: int = 1) -> None:
        self._threads = threads
        self._executor: ThreadPoolExecutor | None = None
        self._closed = False
        self._model: MiniLM | None = None
        self._loading = threading.Lock()

    @property
    def missing(self) -> str | None:
        """How to install what is missing, or None when everything is there."""
        return None if self._model is not None else _weights.missing()

    async def embed(self, texts: Sequence[str]) -> tuple[list[Vector], int]:
        """Return one unit-length vector of 384 numbers a text, and the number of tokens.

        Only the first 256 tokens of a text count, about 190 English words.

        Raises:
            MissingExtraError: A library of the extra `offline` is not installed.
            ConfigurationError: The weights are not installed, or damaged.
            GatewayError: The gateway was closed.
        """
        model = await self._in_thread(self._loaded)
        work = await self._in_thread(lambda: model.slices(texts))
        vectors: list[Vector] = [()] * len(texts)
        for part in work:
            rows = await self._in_thread(partial(_run, model, part))
            for position, row in zip(part.positions, rows, strict=True):
                vectors[position] = row
        return vectors, sum(len(tokens) for part in work for tokens in part.tokens)

    def close(self) -> None:
        """Let the threads end after the slices at hand."""
        self._closed = True
        if self._executor is not None:
            self._executor.shutdown(wait=False)

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        if self._closed:
            message = "The gateway is closed."
            raise GatewayError(message, remedy="Call it within its `async with` block.")
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self._threads, "motadata-embedding")
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def _loaded(self) -> MiniLM:
        with self._loading:
            if self._model is None:
                folder = _weights.verified_folder()
                from motadata.gateway._minilm import MiniLM

                self._model = MiniLM.load(folder)
            return self._model


def _run(model: MiniLM, part: Slice) -> list[Vector]:
    return [tuple(row) for row in model.run(part).tolist()]
