"""How a stream that comes through litellm ended: in its provider's words, or made up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping


class Ending:
    """Knows whether the provider said why its stream ended; litellm makes up `stop` if not.

    litellm says `stop` of every part that Gemini sends, the first one already. Hence Gemini's own
    words are looked at on their way to it.

    Args:
        response: What litellm returned for a stream, of which nothing was read yet.
    """

    def __init__(self, response: object) -> None:
        self._response = response
        self._told: bool | None = None
        call = getattr(response, "make_call", None)
        if call is not None:
            response.make_call = self._watching(call)  # type: ignore[attr-defined]

    @property
    def was_told(self) -> bool:
        """Whether the provider said it, as far as its stream has been read."""
        if self._told is not None:
            return self._told
        reasons = ("received_finish_reason", "intermittent_finish_reason")
        known = [getattr(self._response, name) for name in reasons if hasattr(self._response, name)]
        return not known or any(reason is not None for reason in known)

    def _watching(self, call: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
        async def begin(**options: object) -> object:
            stream = await call(**options)
            parse = getattr(stream, "chunk_parser", None)
            if parse is not None:
                stream.chunk_parser = lambda chunk: parse(self._noted(chunk))  # type: ignore[attr-defined]
            return stream

        return begin

    def _noted(self, chunk: object) -> object:
        """Return a part as it is; only Gemini's parts have candidates or feedback."""
        if isinstance(chunk, Mapping) and ("candidates" in chunk or "promptFeedback" in chunk):
            candidates = chunk.get("candidates") or ()
            told = any(candidate.get("finishReason") for candidate in candidates)
            refused = (chunk.get("promptFeedback") or {}).get("blockReason")
            self._told = bool(self._told or told or refused)
        return chunk
