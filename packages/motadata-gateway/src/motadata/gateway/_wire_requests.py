"""Our requests in OpenAI's words, which litellm takes as well."""

from __future__ import annotations

from motadata.core.models import Message, ToolDefinition
from motadata.gateway._rendering import render_message
from motadata.gateway._requests import ChatOptions, ChatRequest
from motadata.gateway._schemas import response_format


def chat_arguments(request: ChatRequest, *, model: str) -> dict[str, object]:
    """Return what the request says, without key and address.

    Args:
        request: The conversation.
        model: The model's name as the reader of the arguments knows it.
    """
    arguments: dict[str, object] = {
        "model": model,
        "messages": [_sent(message) for message in request.messages],
    }
    if request.temperature is not None:
        arguments["temperature"] = request.temperature
    if request.max_tokens is not None:
        arguments["max_tokens"] = request.max_tokens
    if request.tools:
        arguments["tools"] = [_tool(tool) for tool in request.tools]
    _add_options(arguments, request.options)
    return arguments


def parameters_of(tool: ToolDefinition) -> dict[str, object]:
    """Return the schema of a tool's arguments; of a tool without any, the empty object's."""
    return dict(tool.parameters) or {"type": "object", "properties": {}}


def _add_options(arguments: dict[str, object], options: ChatOptions) -> None:
    choice = options.tool_choice
    if choice in ("auto", "none", "required"):
        arguments["tool_choice"] = choice
    elif choice is not None:
        arguments["tool_choice"] = {"type": "function", "function": {"name": choice}}
    if options.top_p is not None:
        arguments["top_p"] = options.top_p
    if options.stop:
        arguments["stop"] = list(options.stop)
    if options.seed is not None:
        arguments["seed"] = options.seed
    if options.output_schema is not None:
        arguments["response_format"] = response_format(options.output_schema)


def _sent(message: Message) -> dict[str, object]:
    sent: dict[str, object] = {"role": message.role, "content": render_message(message)}
    if message.tool_call_id is not None:
        sent["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        sent["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    return sent


def _tool(tool: ToolDefinition) -> dict[str, object]:
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": parameters_of(tool),
    }
    return {"type": "function", "function": function}
