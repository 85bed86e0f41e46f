"""What litellm does not pass on of an answer: how it ended, and what Gemini says it used."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Final

import orjson

from motadata.core.errors import ProviderError
from motadata.core.models import Completion, Usage
from motadata.gateway.usage import merged_counts, usage_from_gemini


_UNREADABLE: Final = frozenset(
    {"MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE", "UNEXPECTED_TOOL_CALL"}
)
"""Gemini's words for an answer that it could not read itself; there is nothing else in it."""
_ENDED: Final = frozenset({None, "STOP", "FINISH_REASON_UNSPECIFIED"})


class Ending:
    """Knows how an answer ended in its provider's words; litellm makes up `stop` if there is none.

    litellm says `stop` of every part that Gemini sends, the first one already, and of calls of
    tools that Gemini could not read. Of what was used it drops searches that another part of a
    stream tells than the counts, and of a filtered answer all but two counts. Hence Gemini's own
    words are looked at on their way to it.

    Args:
        model: Full name of the model that is asked.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._response: object = None
        self._told: bool | None = None
        self._reason: str | None = None
        self._version = ""
        self._counts: Mapping[str, object] = {}
        self._queries: dict[str, None] = {}

    @property
    def was_told(self) -> bool:
        """Whether the provider said why its stream ended, as far as the stream has been read."""
        if self._told is not None:
            return self._told
        reasons = ("received_finish_reason", "intermittent_finish_reason")
        known = [getattr(self._response, name) for name in reasons if hasattr(self._response, name)]
        return not known or any(reason is not None for reason in known)

    def hear(self, details: Mapping[str, object]) -> None:
        """Take in a whole answer; litellm hands it to the `logger_fn` of a call before it reads it.

        Args:
            details: What litellm knows of the call, the answer's text among it.
        """
        text = details.get("original_response")
        if details.get("log_event_type") != "post_api_call" or not isinstance(text, str):
            return
        try:
            self._noted(orjson.loads(text))
        except orjson.JSONDecodeError:
            return  # litellm finds it unreadable as well, and says so

    def watch(self, response: object) -> None:
        """Look at the parts of a stream on their way to litellm.

        Args:
            response: What litellm returned for a stream, of which nothing was read yet.
        """
        self._response = response
        call = getattr(response, "make_call", None)
        if call is not None:
            response.make_call = self._watching(call)  # type: ignore[attr-defined]

    def corrected(self, answer: Completion) -> Completion:
        """Return an answer with what Gemini said itself; any other provider's as it is.

        Raises:
            ProviderError: Gemini could not read the answer that its model gave.
        """
        if self._reason in _UNREADABLE:
            message = f"The model {self._model!r} gave an answer that Gemini itself cannot read."
            remedy = "Try again, or describe the tools more simply."
            raise ProviderError(message, remedy=remedy, retryable=True)
        finish, usage = answer.finish_reason, self._used()
        if finish == "stop" and self._reason not in _ENDED:
            finish = "unknown"  # such as `TOO_MANY_TOOL_CALLS`: litellm calls that an end, too
        if usage is None and finish == answer.finish_reason:
            return answer
        return replace(answer, finish_reason=finish, usage=usage or answer.usage)

    def _used(self) -> Usage | None:
        """Return what Gemini counted; None when it counted nothing, or another answered."""
        if not self._counts:
            return None
        found = {"groundingMetadata": {"webSearchQueries": list(self._queries)}}
        said = {"usageMetadata": self._counts, "candidates": [found], "modelVersion": self._version}
        return usage_from_gemini(said, model=self._model)

    def _watching(self, call: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
        async def begin(**options: object) -> object:
            stream = await call(**options)
            parse = getattr(stream, "chunk_parser", None)
            if parse is not None:
                stream.chunk_parser = lambda chunk: parse(self._noted(chunk))  # type: ignore[attr-defined]
            return stream

        return begin

    def _noted(self, said: object) -> object:
        """Return an answer or a part as it is; only Gemini's have these names."""
        if not isinstance(said, Mapping):
            return said
        counts = said.get("usageMetadata")
        if isinstance(counts, Mapping):
            self._counts = merged_counts(self._counts, counts)
            self._version = str(said.get("modelVersion") or self._version)
        if "candidates" in said or "promptFeedback" in said:
            refused = (said.get("promptFeedback") or {}).get("blockReason")
            self._told = bool(self._told or refused)
            for candidate in said.get("candidates") or ():
                self._note_candidate(candidate)
        return said

    def _note_candidate(self, candidate: Mapping[str, object]) -> None:
        reason, found = candidate.get("finishReason"), candidate.get("groundingMetadata")
        if isinstance(reason, str) and reason:
            self._told, self._reason = True, reason
        queries = found.get("webSearchQueries") if isinstance(found, Mapping) else None
        if isinstance(queries, list):
            self._queries.update(dict.fromkeys(query for query in queries if query))
