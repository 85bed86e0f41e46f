"""How many tokens a text has: estimated per model, or counted offline where that is possible."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import threading
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from motadata.core.errors import ConfigurationError
from motadata.core.models import Message


if TYPE_CHECKING:
    from tiktoken import Encoding

_PER_TOKEN: Final = 4.0
"""Characters of English a token, nearly the same for all current tokenizers."""
_WIDE: Final = 0x2E80
"""From here on (Chinese, Japanese, Korean, emoji) a character is about a token of its own."""
_WEIGHT_OF_NEW: Final = 0.2
_FEWEST: Final = 20
"""A shorter text says little about characters a token."""
_RANGE: Final = (1.0, 10.0)
_MAX_MODELS: Final = 1000
_PER_MESSAGE: Final = 4
_PER_PASSAGE: Final = 24
_PREFACE: Final = 64
"""What rendering adds around a message, a passage, and all passages together."""
_LONGEST: Final = 50_000
"""Longer texts are estimated: counting them would hold the caller up."""
_VOCABULARIES: Final = {
    "cl100k_base": (
        "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    ),
    "o200k_base": (
        "fb374d419588a4632f3f557e76b4b70aebbca790",
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    ),
}
"""File names that tiktoken gives its vocabularies, and the SHA-256 of what is in them."""
_PATTERNS: Final = {
    "cl100k_base": (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
        r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
    ),
    "o200k_base": (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
}
"""How each vocabulary splits a text. tiktoken's own constructors hold them beside a download."""
_LITELLM_FOLDER: Final = "litellm_core_utils/tokenizers"


class TokenCounter(Protocol):
    """Says how many tokens a text has for a model; may err, but never waits."""

    def count(self, text: str, *, model: str) -> int:
        """Return the number of tokens of a text; 0 for the empty one only."""
        ...


class EstimatedTokens:
    """Four characters a token, corrected for each model by what its provider has counted.

    Feed `observe` with the usage of finished calls, and estimates follow within a few of them. What
    is kept is one number a model, for at most 1000 models; safe between threads.

    Args:
        characters_per_token: What is known beforehand, by model.
    """

    def __init__(self, characters_per_token: Mapping[str, float] | None = None) -> None:
        self._ratios = dict(characters_per_token or {})
        self._lock = threading.Lock()
        low, high = _RANGE
        for model, ratio in self._ratios.items():
            if not low <= ratio <= high:
                message = f"{ratio!r} characters a token cannot be right for {model!r}."
                raise ConfigurationError(message, remedy=f"Pass {low:g} to {high:g}.")

    def count(self, text: str, *, model: str) -> int:
        """Return about how many tokens a text has."""
        if not text:
            return 0
        wide, narrow = _characters(text)
        return max(1, round(wide + narrow / self._ratios.get(model, _PER_TOKEN)))

    def observe(self, text: str, tokens: int, *, model: str) -> None:
        """Learn from a text whose tokens the provider counted."""
        wide, narrow = _characters(text)
        if tokens < _FEWEST or tokens <= wide:
            return
        low, high = _RANGE
        seen = min(high, max(low, narrow / (tokens - wide)))
        with self._lock:
            known = self._ratios.get(model)
            if known is None and len(self._ratios) >= _MAX_MODELS:
                return
            self._ratios[model] = seen if known is None else known + _WEIGHT_OF_NEW * (seen - known)


class TiktokenTokens:
    """OpenAI's own tokenizers for OpenAI's models, and an estimate for all others.

    The vocabularies are read from files that are here already and whose checksums are right;
    nothing is ever downloaded. Made by `create_token_counter`.
    """

    def __init__(self, encodings: Mapping[str, Encoding], others: TokenCounter) -> None:
        self._encodings = dict(encodings)
        self._others = others

    def count(self, text: str, *, model: str) -> int:
        """Return how many tokens a text has, special ones counted as ordinary text."""
        encoding = self._encodings.get(_encoding_of(model))
        if encoding is None or len(text) > _LONGEST:
            return self._others.count(text, model=model)
        return len(encoding.encode_ordinary(text))


async def create_token_counter(estimate: EstimatedTokens | None = None) -> TokenCounter:
    """Return the most exact counter that works offline here.

    Reading a vocabulary takes about half a second once; it happens in a thread.

    Args:
        estimate: What counts for models without a tokenizer; None means a fresh `EstimatedTokens`.
    """
    others = EstimatedTokens() if estimate is None else estimate
    encodings = await asyncio.to_thread(_load_encodings)
    return TiktokenTokens(encodings, others) if encodings else others


def count_message(message: Message, counter: TokenCounter, *, model: str) -> int:
    """Return how many tokens a message takes up, its passages and tool calls included."""
    total = _PER_MESSAGE + counter.count(message.content, model=model)
    if message.passages:
        total += _PREFACE
    for passage in message.passages:
        shown = f"{passage.title}{passage.heading or ''}{passage.text}"
        total += _PER_PASSAGE + counter.count(shown, model=model)
    for call in message.tool_calls:
        shown = f"{call.id}{call.name}{call.arguments}"
        total += _PER_MESSAGE + counter.count(shown, model=model)
    if message.tool_call_id:
        total += counter.count(message.tool_call_id, model=model)
    return total


def _characters(text: str) -> tuple[int, int]:
    if text.isascii():
        return 0, len(text)
    wide = sum(character >= chr(_WIDE) for character in text)
    return wide, len(text) - wide


def _encoding_of(model: str) -> str:
    from tiktoken.model import encoding_name_for_model

    try:
        return encoding_name_for_model(model.rpartition("/")[2])
    except KeyError:
        return ""


def _load_encodings() -> dict[str, Encoding]:
    if find_spec("tiktoken") is None:
        return {}
    folders = _folders()
    loaded = {}
    for name, (file_name, checksum) in _VOCABULARIES.items():
        for folder in folders:
            data = _read(folder / file_name)
            if hashlib.sha256(data).hexdigest() == checksum:
                loaded[name] = _encoding(name, data)
                break
    return loaded


def _folders() -> list[Path]:
    """Return where vocabularies may lie: tiktoken's own caches, and a copy that litellm brings."""
    named = (os.environ.get(name) for name in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"))
    folders = [Path(name) for name in named if name]
    litellm = find_spec("litellm")
    if litellm is not None and litellm.submodule_search_locations:
        folders += [Path(place) / _LITELLM_FOLDER for place in litellm.submodule_search_locations]
    return folders


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _encoding(name: str, data: bytes) -> Encoding:
    from tiktoken import Encoding

    pairs = (line.split() for line in data.splitlines() if line)
    ranks = {base64.b64decode(token): int(rank) for token, rank in pairs}
    return Encoding(name, pat_str=_PATTERNS[name], mergeable_ranks=ranks, special_tokens={})
