"""Our requests in Anthropic's words.

After https://docs.anthropic.com/en/api/messages. What its interface has no word for is left out
(`seed`), or said otherwise: an answer that follows a JSON schema is asked for as the arguments of
a tool that the model must call, which works for every model of theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import orjson

from motadata.core.errors import ValidationError
from motadata.core.models import Message, ToolCall
from motadata.gateway._rendering import render_message
from motadata.gateway._requests import ChatOptions, ChatRequest
from motadata.gateway._wire_requests import parameters_of


ANSWER_TOOL: Final = "answer_as_json"
_CHOICES: Final[Mapping[str, str]] = {"auto": "auto", "none": "none", "required": "any"}

Block = dict[str, object]


def chat_body(request: ChatRequest, *, stream: bool, max_tokens: int) -> dict[str, object]:
    """Return the request's body.

    Args:
        request: The conversation.
        stream: Whether the answer is to come in parts.
        max_tokens: Most tokens of an answer, when the request does not say; theirs must.

    Raises:
        ValidationError: Nobody but the system says anything.
    """
    system = "\n\n".join(
        render_message(message) for message in request.messages if message.role == "system"
    )
    turns = _turns(message for message in request.messages if message.role != "system")
    if not turns:
        message = f"The conversation for the model {request.model!r} has no turn of the user."
        raise ValidationError(message, remedy="Add one.")
    body: dict[str, object] = {
        "model": request.model.partition("/")[2],
        "max_tokens": request.max_tokens or max_tokens,
        "messages": turns,
    }
    if system:
        body["system"] = system
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if stream:
        body["stream"] = True
    _add_tools(body, request)
    _add_options(body, request.options)
    return body


def _turns(messages: Iterable[Message]) -> list[dict[str, object]]:
    """Return the turns; those of one side in a row are one, as results of tools must be."""
    turns: list[tuple[str, list[Block]]] = []
    for message in messages:
        role = "assistant" if message.role == "assistant" else "user"
        blocks = _blocks(message)
        if blocks and turns and turns[-1][0] == role:
            turns[-1][1].extend(blocks)
        elif blocks:
            turns.append((role, blocks))
    if turns and turns[-1][0] == "assistant":
        _trim(turns[-1][1])
    return [{"role": role, "content": _plain(blocks)} for role, blocks in turns if blocks]


def _blocks(message: Message) -> list[Block]:
    text = render_message(message)
    if message.role == "tool":
        return [{"type": "tool_result", "tool_use_id": message.tool_call_id, "content": text}]
    said: list[Block] = [{"type": "text", "text": text}] if text.strip() else []
    return said + [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": _input(call)}
        for call in message.tool_calls
    ]


def _input(call: ToolCall) -> object:
    """Return a call's arguments as the object that is wanted, also when the model wrote none."""
    try:
        value: object = orjson.loads(call.arguments or "{}")
    except orjson.JSONDecodeError:
        value = None
    return value if isinstance(value, dict) else {"arguments": call.arguments}


def _trim(blocks: list[Block]) -> None:
    """Cut blanks from the end of the last turn, which an assistant's must not have."""
    text = blocks[-1].get("text")
    if isinstance(text, str):
        blocks[-1]["text"] = text.rstrip()


def _plain(blocks: Sequence[Block]) -> object:
    only = blocks[0] if len(blocks) == 1 else {}
    return only["text"] if only.get("type") == "text" else blocks


def _add_tools(body: dict[str, object], request: ChatRequest) -> None:
    choice, schema = request.options.tool_choice, request.options.output_schema
    tools: list[Block] = [
        {
            "name": tool.name,
            "description": tool.description,
            "input_schema": parameters_of(tool),
        }
        for tool in request.tools
        if schema is None or choice != "none"
    ]
    if schema is not None:
        told = "Gives the answer. Call it instead of answering in words."
        tools.append({"name": ANSWER_TOOL, "description": told, "input_schema": dict(schema)})
        alone = len(tools) == 1
        body["tool_choice"] = {"type": "tool", "name": ANSWER_TOOL} if alone else {"type": "any"}
    if choice is not None and choice not in _CHOICES:
        body["tool_choice"] = {"type": "tool", "name": choice}
    elif choice is not None and request.tools and schema is None:
        body["tool_choice"] = {"type": _CHOICES[choice]}
    if tools:
        body["tools"] = tools


def _add_options(body: dict[str, object], options: ChatOptions) -> None:
    if options.top_p is not None:
        body["top_p"] = options.top_p
    if options.stop:
        body["stop_sequences"] = list(options.stop)
