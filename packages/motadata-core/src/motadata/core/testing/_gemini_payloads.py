"""What the scripted server says in Gemini's words: whole answers, parts of streams, errors."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final


_REASONS: Final = {
    "stop": "STOP",
    "length": "MAX_TOKENS",
    "tool_calls": "STOP",
    "content_filter": "SAFETY",
}
_KINDS: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}
FIRST_TEXT: Final = 0
"""How many events come before the first that says something."""


def error_body(status: int) -> str:
    """Return an error."""
    kind = _KINDS.get(status, "INTERNAL")
    error = {"code": status, "message": f"scripted error {status}", "status": kind}
    return json.dumps({"error": error})


def chat_body(request: Mapping[str, Any], reply: Mapping[str, Any]) -> str:
    """Return a whole answer."""
    return json.dumps(_part([_text_of(request, reply)], reply, last=True))


def chat_events(request: Mapping[str, Any], reply: Mapping[str, Any]) -> list[str]:
    """Return the payloads of a streamed answer's events; the last one carries all but text."""
    if reply["events"] is not None:
        return list(reply["events"])
    text = _text_of(request, reply)
    pieces = reply["chunks"] if reply["chunks"] is not None else re.findall(r"\S+\s*", text)
    parts = [_part([piece], reply, last=False) for piece in pieces]
    return [json.dumps(part) for part in (*parts, _part([], reply, last=True))]


def _part(texts: list[str], reply: Mapping[str, Any], *, last: bool) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"text": text} for text in texts if text]
    candidate: dict[str, Any] = {"index": 0, "content": {"role": "model", "parts": parts}}
    part: dict[str, Any] = {"candidates": [candidate], "modelVersion": "scripted"}
    if not last:
        return part
    for call in reply["tool_calls"]:
        said = {"name": call["name"], "args": json.loads(call["arguments"])}
        parts.append({"functionCall": said})
    reason = reply["finish_reason"] or "stop"
    candidate["finishReason"] = _REASONS.get(reason, reason)
    if reply["usage"] is not None:
        part["usageMetadata"] = _usage(reply["usage"])
    return part


def _text_of(request: Mapping[str, Any], reply: Mapping[str, Any]) -> str:
    if reply["text"] or reply["chunks"] is not None or reply["tool_calls"]:
        return str(reply["text"] or "".join(reply["chunks"] or ()))
    last = (request.get("contents") or [{}])[-1]
    return "You said: " + "".join(part.get("text", "") for part in last.get("parts", ()))


def _usage(usage: object) -> dict[str, Any]:
    if isinstance(usage, Mapping):
        return dict(usage)
    sent, received = usage if isinstance(usage, list | tuple) else (0, 0)
    return {
        "promptTokenCount": sent,
        "candidatesTokenCount": received,
        "totalTokenCount": sent + received,
    }
