"""What makes two requests equal: a digest of everything that decides the answer.

The tenant is no part of it: whoever keeps things by these digests keeps tenants apart itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Final

import orjson

from motadata.gateway._call import Call
from motadata.gateway._requests import ChatRequest, EmbeddingRequest


_FORMAT: Final = 3
_OPTIONS: Final = orjson.OPT_SORT_KEYS


def completion_key(call: Call[ChatRequest]) -> str:
    """Return the SHA-256 of everything that decides the answer; made once per request."""
    notes, request = call.notes, call.request
    if notes.digested is not None and notes.digested[0] is request:
        return notes.digested[1]
    key = _digest([_FORMAT, call.provider.revision, call.policy, request])
    notes.digested = (request, key)
    return key


def vector_key(call: Call[EmbeddingRequest], text: str) -> str:
    """Return the SHA-256 of everything that decides the vector of one text."""
    return _digest([_FORMAT, call.provider.revision, call.request.model, text])


def texts_key(call: Call[EmbeddingRequest]) -> str:
    """Return the SHA-256 of everything that decides the vectors of a whole request."""
    return _digest([_FORMAT, call.provider.revision, call.request])


def _digest(value: list[object]) -> str:
    try:
        data = orjson.dumps(value, default=_plain, option=_OPTIONS)
    except TypeError:
        # A lone surrogate, an integer beyond 64 bits or a key that is no string: rare, and slower.
        data = json.dumps(value, sort_keys=True, ensure_ascii=True, default=_plain).encode("ascii")
    return hashlib.sha256(data).hexdigest()


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return dict(value) if isinstance(value, Mapping) else str(value)
