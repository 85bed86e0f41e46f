"""Every text of a request, judged in its role."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from operator import is_
from typing import Final

from motadata.core.models import Message, Passage, ToolCall
from motadata.core.protocols import Finding, GuardedText
from motadata.gateway._call import Call
from motadata.gateway._requests import ChatRequest, EmbeddingRequest
from motadata.gateway.guardrails._chain import Chain, Replace


# After so many characters other tasks get their turn.
_BREATH: Final = 20_000

_Judge = Callable[[str, str], Awaitable[str]]


async def guarded_request(call: Call[ChatRequest], chain: Chain, replaced: Replace) -> ChatRequest:
    """Return the request as it may go on; the same object when nothing is changed.

    Raises:
        GuardrailError: A rule refuses it.
    """
    judge = _judge(call, chain, replaced)
    messages: list[Message] = []
    for message in call.request.messages:
        if message.passages or message.tool_calls:
            messages.append(await _message(message, judge))
            continue
        content = await judge(message.content, message.role)
        same = content == message.content
        messages.append(message if same else replace(message, content=content))
    if all(map(is_, messages, call.request.messages)):
        return call.request
    return replace(call.request, messages=tuple(messages))


async def guarded_texts(call: Call[EmbeddingRequest], chain: Chain) -> tuple[str, ...]:
    """Return texts to embed as they may go on.

    Raises:
        GuardrailError: A rule refuses one.
    """
    judge = _judge(call, chain, _marked)
    return tuple([await judge(text, "user") for text in call.request.texts])


def texts_of(request: ChatRequest) -> str:
    """Return all texts of a request as one."""
    pieces: list[str] = []
    for message in request.messages:
        pieces.append(message.content)
        pieces += [passage.text for passage in message.passages]
        pieces += [tool.arguments for tool in message.tool_calls]
    return "\n".join(pieces)


def _judge(
    call: Call[ChatRequest] | Call[EmbeddingRequest], chain: Chain, replaced: Replace
) -> _Judge:
    tenant, feature, notes = str(call.tenant_id), call.attribution.feature, call.notes
    read = 0

    async def judged(text: str, role: str) -> str:
        nonlocal read
        if not text:
            return text
        read += len(text)
        if read > _BREATH:
            read = 0
            await asyncio.sleep(0)
        about = GuardedText(text=text, stage="input", tenant_id=tenant, role=role, feature=feature)
        return await chain.apply(about, notes, replaced)

    return judged


async def _message(message: Message, judge: _Judge) -> Message:
    content = await judge(message.content, message.role)
    passages = tuple([await _passage(passage, judge) for passage in message.passages])
    calls = tuple([await _tool_call(tool, judge) for tool in message.tool_calls])
    if (content, passages, calls) == (message.content, message.passages, message.tool_calls):
        return message
    return replace(message, content=content, passages=passages, tool_calls=calls)


async def _passage(passage: Passage, judge: _Judge) -> Passage:
    return replace(
        passage,
        text=await judge(passage.text, "passage"),
        title=await judge(passage.title, "passage"),
        heading=passage.heading and await judge(passage.heading, "passage"),
    )


async def _tool_call(tool: ToolCall, judge: _Judge) -> ToolCall:
    return replace(tool, arguments=await judge(tool.arguments, "arguments"))


def _marked(finding: Finding, _text: str) -> str:
    return finding.mark
