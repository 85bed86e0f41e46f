"""Answers composed of sentences of the given passages, and of nothing else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from motadata.core.models import Passage
from motadata.gateway._embedder import OfflineEmbedder


UNKNOWN: Final = "I don't know."
_WORD: Final = re.compile(r"\w{3,}")
_SENTENCE: Final = re.compile(r"[^.!?\n]+[.!?]*")


async def answer_from_passages(
    question: str, passages: Sequence[Passage], embedder: OfflineEmbedder | None
) -> str:
    """Return the sentences that share most words with the question, each with its mark."""
    wanted = set(_WORD.findall(question.lower()))
    scored = [
        (len(wanted & set(_WORD.findall(sentence.lower()))), passage.number, sentence.strip())
        for passage in passages
        for sentence in _SENTENCE.findall(passage.text)
    ]
    best = sorted((item for item in scored if item[0] > 1), key=lambda item: -item[0])[:2]
    return " ".join(f"{sentence} [{number}]" for _, number, sentence in best) or UNKNOWN
