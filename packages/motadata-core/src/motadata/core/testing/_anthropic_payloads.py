"""What the scripted server says in Anthropic's words: whole answers, events of streams, errors."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from motadata.core.testing._openai_payloads import text_of


_REASONS: Final = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
_KINDS: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
FIRST_TEXT: Final = 3
"""How many events come before the first that says something."""


def error_body(status: int) -> str:
    """Return an error."""
    error = {"type": _KINDS.get(status, "api_error"), "message": f"scripted error {status}"}
    return json.dumps({"type": "error", "error": error})


def chat_body(request: Mapping[str, Any], reply: Mapping[str, Any]) -> str:
    """Return a whole answer."""
    text = text_of(request, reply)
    content: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
    content += [_use(call, json.loads(call["arguments"])) for call in reply["tool_calls"]]
    usage = _usage(reply["usage"])
    return json.dumps({**_message(request), **_end(reply), "content": content, "usage": usage})


def chat_events(request: Mapping[str, Any], reply: Mapping[str, Any]) -> list[str]:
    """Return the payloads of a streamed answer's events."""
    if reply["events"] is not None:
        return list(reply["events"])
    usage = _usage(reply["usage"])
    first = {**_message(request), "content": [], "usage": {**usage, "output_tokens": 1}}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": first}, {"type": "ping"}]
    text = text_of(request, reply)
    pieces = reply["chunks"] if reply["chunks"] is not None else re.findall(r"\S+\s*", text)
    place = 0
    if pieces:
        deltas = [{"type": "text_delta", "text": piece} for piece in pieces]
        events += _block(place, {"type": "text", "text": ""}, deltas)
        place += 1
    for call in reply["tool_calls"]:
        half = len(call["arguments"]) // 2
        halves = (call["arguments"][:half], call["arguments"][half:])
        deltas = [{"type": "input_json_delta", "partial_json": part} for part in halves]
        events += _block(place, _use(call, {}), deltas)
        place += 1
    said = {"output_tokens": usage["output_tokens"]}
    events += [{"type": "message_delta", "delta": _end(reply), "usage": said}]
    return [json.dumps(event) for event in (*events, {"type": "message_stop"})]


def _block(
    place: int, block: Mapping[str, Any], deltas: list[dict[str, str]]
) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": place, "content_block": block},
        *({"type": "content_block_delta", "index": place, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": place},
    ]


def _message(request: Mapping[str, Any]) -> dict[str, Any]:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "stop_sequence": None}
    return {**message, "model": request.get("model"), "stop_reason": None}


def _end(reply: Mapping[str, Any]) -> dict[str, Any]:
    reason = reply["finish_reason"] or ("tool_calls" if reply["tool_calls"] else "stop")
    return {"stop_reason": _REASONS.get(reason, reason), "stop_sequence": None}


def _use(call: Mapping[str, Any], arguments: object) -> dict[str, Any]:
    return {"type": "tool_use", "id": call["id"], "name": call["name"], "input": arguments}


def _usage(usage: object) -> dict[str, Any]:
    if isinstance(usage, Mapping):
        return dict(usage)
    sent, received = usage if isinstance(usage, list | tuple) else (0, 0)
    return {"input_tokens": sent, "output_tokens": received}
