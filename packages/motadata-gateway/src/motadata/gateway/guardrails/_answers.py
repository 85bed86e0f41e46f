"""One answer under the guardrails of its call, whole or part by part."""

from __future__ import annotations

from dataclasses import replace

from motadata.core.models import Completion, CompletionChunk, ToolCall
from motadata.core.protocols import Finding, GuardedText
from motadata.gateway._call import Call
from motadata.gateway._requests import ChatRequest
from motadata.gateway.guardrails._chain import settle
from motadata.gateway.guardrails._policy import GuardrailPolicy
from motadata.gateway.guardrails._streaming import WindowedAnswer


class GuardedAnswer:
    """Judges the answer to one call.

    A streamed one passes through a window. When a guardrail must see all of it before any of it may
    be said, it is said in one piece, at its end.
    """

    def __init__(self, call: Call[ChatRequest], policy: GuardrailPolicy) -> None:
        self._call = call
        self._policy = policy
        self._streaming: WindowedAnswer | None = None
        self._said: list[str] = []
        self._last: CompletionChunk | None = None
        self._calls: tuple[ToolCall, ...] = ()

    @property
    def _window(self) -> WindowedAnswer:
        """The window; made when the answer streams, which most do not."""
        if self._streaming is None:
            chain = self._policy.window_chain
            self._streaming = WindowedAnswer(chain, self._about(""), self._call.notes)
        return self._streaming

    async def emit(self, chunk: CompletionChunk) -> None:
        """Take a part of the answer, and say what may be said.

        Raises:
            GuardrailError: A rule refuses it.
        """
        held = bool(self._policy.whole_chain)
        text = await self._window.take(chunk.text) if self._policy.window_chain else chunk.text
        if chunk.finish_reason is not None:
            text += await self._window.finish()
            self._calls = await self._guarded_calls(chunk.tool_calls)
            self._said.append(text)
            if held and not (self._calls and not any(self._said)):
                text = await self._whole_text("".join(self._said))
                self._said = [text]
            await self._flag_late("".join(self._said))
            self._last = replace(chunk, text=text, tool_calls=self._calls)
            await self._say(self._last)
        elif text:
            self._said.append(text)
            if not held:
                await self._say(_with_text(chunk, text))

    async def ended(self, answer: Completion) -> Completion:
        """Return the whole of an answer that was said part by part.

        Raises:
            GuardrailError: Nothing was said, and a rule refuses the whole.
        """
        if self._last is None and not self._said and not self._window.waiting:
            return await self.whole(answer)
        if self._last is None:
            # It ended without a last part; what waits is still to be said.
            await self.emit(CompletionChunk("", answer.finish_reason, answer.tool_calls))
        return replace(answer, text="".join(self._said), tool_calls=self._calls)

    async def whole(self, answer: Completion) -> Completion:
        """Return an answer as it may be said.

        Raises:
            GuardrailError: A rule refuses it.
        """
        text = answer.text
        if text or not answer.tool_calls:
            about = self._about(text)
            text = await self._policy.output_chain.apply(about, self._call.notes, _marked)
        calls = await self._guarded_calls(answer.tool_calls)
        if text is answer.text and calls == answer.tool_calls:
            return answer
        return replace(answer, text=text, tool_calls=calls)

    async def _whole_text(self, text: str) -> str:
        about = self._about(text)
        return await self._policy.whole_chain.apply(about, self._call.notes, _marked)

    async def _flag_late(self, text: str) -> None:
        about = self._about(text)
        for finding in await self._policy.late_chain.find(about):
            # It was said already, so that a mark of it is all that is left to do.
            settle(replace(finding, action="flag"), about, self._call.notes)

    async def _guarded_calls(self, calls: tuple[ToolCall, ...]) -> tuple[ToolCall, ...]:
        """Return tools' arguments as they may go on; rules of a whole answer are not asked."""
        if not calls:
            return calls
        chain, notes = self._policy.window_chain, self._call.notes
        return tuple(
            [
                replace(
                    tool,
                    arguments=await chain.apply(
                        self._about(tool.arguments, role="arguments"), notes, _marked
                    ),
                )
                for tool in calls
            ]
        )

    def _about(self, text: str, *, role: str = "answer") -> GuardedText:
        return GuardedText(
            text=text,
            stage="output",
            tenant_id=str(self._call.tenant_id),
            role=role,
            feature=self._call.attribution.feature,
        )

    async def _say(self, chunk: CompletionChunk) -> None:
        if self._call.emit is not None:
            await self._call.emit(chunk)


def _with_text(chunk: CompletionChunk, text: str) -> CompletionChunk:
    # Not `replace`: this is on the way of every part, and three times as fast.
    return CompletionChunk(
        text, chunk.finish_reason, chunk.tool_calls, chunk.usage, chunk.model, chunk.call_id
    )


def _marked(finding: Finding, _text: str) -> str:
    return finding.mark
