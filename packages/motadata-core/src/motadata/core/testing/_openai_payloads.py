"""What the scripted server says: whole answers, events of streams, vectors, errors."""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import Mapping
from typing import Any, Final

from motadata.core.testing.fake_gateway import word_vector


FIRST_TEXT: Final = 0
"""How many events come before the first that says something."""


def error_body(status: int) -> str:
    """Return an error of OpenAI's shape."""
    error = {"message": f"scripted error {status}", "type": "scripted", "code": str(status)}
    return json.dumps({"error": error})


def chat_body(request: Mapping[str, Any], reply: Mapping[str, Any]) -> str:
    """Return a whole answer."""
    message: dict[str, Any] = {"role": "assistant", "content": text_of(request, reply)}
    if reply["tool_calls"]:
        message["tool_calls"] = [tool_call(call) for call in reply["tool_calls"]]
    choice = {"index": 0, "message": message, "finish_reason": finish_reason(reply)}
    answer = {**envelope(request, "chat.completion"), "choices": [choice]}
    if reply["usage"] is not None:
        answer["usage"] = usage_of(reply["usage"])
    return json.dumps(answer)


def chat_events(request: Mapping[str, Any], reply: Mapping[str, Any]) -> list[str]:
    """Return the payloads of a streamed answer's events, `[DONE]` among them."""
    if reply["events"] is not None:
        return list(reply["events"])
    text = text_of(request, reply)
    pieces = reply["chunks"] if reply["chunks"] is not None else re.findall(r"\S+\s*", text)
    deltas: list[dict[str, Any]] = [{"content": piece} for piece in pieces]
    for index, call in enumerate(reply["tool_calls"]):
        half = len(call["arguments"]) // 2
        first = tool_call({**call, "arguments": call["arguments"][:half]})
        rest = {"index": index, "function": {"arguments": call["arguments"][half:]}}
        deltas += [{"tool_calls": [{"index": index, **first}]}, {"tool_calls": [rest]}]
    if deltas:
        deltas[0]["role"] = "assistant"
    events = [_event(request, delta, None) for delta in deltas]
    events.append(_event(request, {}, finish_reason(reply)))
    wants_usage = (request.get("stream_options") or {}).get("include_usage")
    if wants_usage and reply["usage"] is not None:
        last = {**envelope(request, "chat.completion.chunk"), "choices": []}
        events.append(json.dumps({**last, "usage": usage_of(reply["usage"])}))
    return [*events, "[DONE]"]


def embedding_body(request: Mapping[str, Any], reply: Mapping[str, Any]) -> str:
    """Return vectors, as numbers or base64 as the client wants them."""
    texts = request["input"] if isinstance(request["input"], list) else [request["input"]]
    vectors = reply["vectors"] or [word_vector(text) for text in texts]
    packed = request.get("encoding_format") == "base64"
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": _packed(vector) if packed else list(vector),
        }
        for index, vector in enumerate(vectors)
    ]
    answer = {"object": "list", "data": data, "model": request.get("model")}
    if reply["usage"] is not None:
        counts = reply["usage"]
        answer["usage"] = usage_of(counts if isinstance(counts, Mapping) else (counts[0], 0))
    return json.dumps(answer)


def text_of(request: Mapping[str, Any], reply: Mapping[str, Any]) -> str:
    """Return the scripted text, or what the last message said."""
    if reply["text"] or reply["chunks"] is not None or reply["tool_calls"]:
        return str(reply["text"] or "".join(reply["chunks"] or ()))
    messages = request.get("messages") or [{"content": ""}]
    return f"You said: {messages[-1].get('content')}"


def finish_reason(reply: Mapping[str, Any]) -> str:
    """Return why the answer ends."""
    return str(reply["finish_reason"] or ("tool_calls" if reply["tool_calls"] else "stop"))


def envelope(request: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return the fields that every answer has."""
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": request.get("model")}


def tool_call(call: Mapping[str, Any]) -> dict[str, Any]:
    """Return a wish to call a tool."""
    function = {"name": call["name"], "arguments": call["arguments"]}
    return {"id": call["id"], "type": "function", "function": function}


def usage_of(usage: tuple[int, int] | Mapping[str, Any]) -> Mapping[str, Any]:
    """Return tokens by OpenAI's names, or exactly what was scripted."""
    if isinstance(usage, Mapping):
        return usage
    sent, received = usage
    return {"prompt_tokens": sent, "completion_tokens": received, "total_tokens": sent + received}


def _event(request: Mapping[str, Any], delta: Mapping[str, Any], finish: str | None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return json.dumps({**envelope(request, "chat.completion.chunk"), "choices": [choice]})


def _packed(vector: tuple[float, ...]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")
