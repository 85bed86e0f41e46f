"""Guardrails on a streamed answer: a window of it waits, and nothing is taken back afterwards."""

from __future__ import annotations

from motadata.core.protocols import STREAM_WINDOW, Finding, GuardedText
from motadata.gateway._call import CallNotes
from motadata.gateway.guardrails._chain import Chain, settle


class WindowedAnswer:
    """The parts of one answer, let through as soon as no guardrail can object to them any more.

    At most `STREAM_WINDOW` characters wait for what follows them. A find that is longer than the
    window is masked from its first character on, and swallowed until it ends.

    Args:
        chain: What judges it; each of reach `window`.
        about: Whose answer it is.
        notes: Takes the verdicts.
    """

    def __init__(self, chain: Chain, about: GuardedText, notes: CallNotes) -> None:
        self._chain = chain
        self._about = about
        self._notes = notes
        self._text = ""
        self._said = 0  # characters of `_text` that are dealt with
        self._received = 0
        self._swallowing = False

    @property
    def waiting(self) -> int:
        """How many characters wait."""
        return len(self._text) - self._said

    async def take(self, piece: str) -> str:
        """Add a part, and return what may be said now.

        Raises:
            GuardrailError: A rule refuses the answer; none of what it refuses was said.
        """
        self._text += piece
        self._received += len(piece)
        if len(self._text) - self._said <= STREAM_WINDOW:
            return ""
        return await self._judged(final=False)

    async def finish(self) -> str:
        """Return what waited for more.

        Raises:
            GuardrailError: A rule refuses it.
        """
        return await self._judged(final=True)

    async def _judged(self, *, final: bool) -> str:
        text = self._text
        about = GuardedText(
            text=text,
            stage=self._about.stage,
            tenant_id=self._about.tenant_id,
            role=self._about.role,
            feature=self._about.feature,
            offset=self._received - len(text),
            final=final,
        )
        end = len(text)
        cut = end if final else end - STREAM_WINDOW
        pieces: list[str] = []
        position = self._said
        covering: Finding | None = None
        for finding in await self._chain.find(about):
            if finding.start >= cut and not final:
                break
            if finding.end <= position and (finding.end < position or finding.start < finding.end):
                continue
            settle(finding, about, self._notes)
            if finding.action not in ("mask", "tokenise"):
                continue
            if position < finding.start or not (self._swallowing and finding.start < self._said):
                pieces += (text[position : finding.start], finding.mark)
            position = finding.end
            covering = finding if finding.end == end else None
        if position < cut:
            pieces.append(text[position:cut])
            position = cut
        self._keep(position, covering)
        return "".join(pieces)

    def _keep(self, position: int, covering: Finding | None) -> None:
        """Forget what is said, except what the rules need to see before what follows."""
        text = self._text
        self._swallowing = covering is not None
        if covering is None:
            start = max(0, position - STREAM_WINDOW)
            self._text, self._said = text[start:], position - start
            return
        # Its first characters say what it is, its last ones where it ends.
        first = covering.start + STREAM_WINDOW
        last = max(first, position - STREAM_WINDOW)
        before = text[max(0, covering.start - STREAM_WINDOW) : first]
        self._text = before + text[last:]
        self._said = len(before) + position - last
