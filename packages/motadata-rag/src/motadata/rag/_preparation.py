"""From a document to what is stored of it: chunks, the texts to embed, the words to search."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from motadata.core.models import Document
from motadata.rag._chunking import CHUNKER_VERSION, Chunk, chunk_text, estimate_tokens
from motadata.rag._lexical import Words, words_of
from motadata.rag.options import RAGOptions


_MAX_CONTEXT = 60


@dataclass(frozen=True, slots=True)
class PreparedChunk:
    """A chunk and what is searched of it.

    Attributes:
        text: Exactly the document's characters.
        embedded_text: The text behind its title and heading, which say what it is about.
        words: The words of `embedded_text`.
    """

    chunk: Chunk
    text: str
    embedded_text: str
    words: Words


def digest_of(document: Document, options: RAGOptions) -> str:
    """Return the SHA-256 of everything that decides what is stored, save the embedding model.

    Which model embedded is known only after the fact and is compared apart.
    """
    parts = [
        CHUNKER_VERSION,
        options.chunk_tokens,
        options.overlap_tokens,
        document.title,
        document.source,
        document.media_type,
        document.text,
        [[part.start, part.end, part.page, part.heading] for part in document.sections],
        sorted(document.metadata.items()),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def prepare(document: Document, options: RAGOptions) -> list[PreparedChunk]:
    """Cut a document and look at its words. Takes its time: call it in a thread."""
    chunks = chunk_text(
        document.text,
        document.sections,
        budget=options.chunk_tokens,
        overlap=options.overlap_tokens,
    )
    return [_prepared(document, chunk) for chunk in chunks]


def _prepared(document: Document, chunk: Chunk) -> PreparedChunk:
    text = document.text[chunk.start : chunk.end]
    context = _context(document.title, chunk.heading, text)
    embedded = f"{context}\n{text}" if context else text
    return PreparedChunk(chunk, text, embedded, words_of(embedded))


def _context(title: str, heading: str | None, text: str) -> str:
    """Return title and heading, each once, leaving out what the chunk opens with anyway."""
    opening = text[:500].casefold()
    parts: list[str] = []
    for part in [title, *(heading or "").split(" > ")]:
        name = " ".join(part.split())
        known = name.casefold() in opening or name in parts
        if name and not known and estimate_tokens(" ".join([*parts, name])) <= _MAX_CONTEXT:
            parts.append(name)
    return "\n".join(parts)
