"""The contract of a guardrail: it judges texts that go to a model or come from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol


STREAM_WINDOW: Final = 64
"""Most characters of a streamed answer that wait for what follows them."""

GuardedStage = Literal["input", "output"]

FindingAction = Literal["flag", "mask", "tokenise", "refuse"]
"""`tokenise` is of inputs: a stand-in goes to the model, and its answer gets the original back."""

StreamReach = Literal["window", "whole", "afterwards"]
"""How much of a streamed answer a guardrail must see; see `Guardrail.reach`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardedText:
    """A text on its way to a model or from it, and where it comes from.

    Attributes:
        text: The text; of a stream, what is not said yet with some of what was said before it.
        stage: Whether a model is asked or answers.
        tenant_id: Whose it is.
        role: `system`, `user`, `assistant`, `tool`, `passage` (somebody's document), `answer`, or
            `arguments` (of a tool's call, as JSON text).
        feature: Part of the product that asks, as the caller named it.
        offset: Characters of the answer before this text.
        final: False when more of it comes. What may then grow into something to be found when it
            is longer than `STREAM_WINDOW` is to be found already.
    """

    text: str
    stage: GuardedStage
    tenant_id: str
    role: str = "user"
    feature: str = ""
    offset: int = 0
    final: bool = True


@dataclass(frozen=True, slots=True)
class Finding:
    """A place where a rule applies, and what is to be done. It holds nothing of the text.

    Attributes:
        rule: Name of the rule, such as `pii.email`.
        action: What is to be done.
        start: Offset of the first character concerned.
        end: Offset behind the last one; equal to `start` when it is the text as a whole.
        mark: What stands in its place when it is masked, and names the stand-in of a token.
    """

    rule: str
    action: FindingAction
    start: int = 0
    end: int = 0
    mark: str = "[removed]"


class Guardrail(Protocol):
    """Judges texts. It keeps no state between them, and none of what it read.

    `check` may be cancelled at any await and is given a time limit; whatever it raises refuses the
    text. It must take time linear in the text's length, whatever the text is, and leave the event
    loop free while it reads a long one.
    """

    @property
    def name(self) -> str:
        """Name its rules begin with."""
        ...

    @property
    def revision(self) -> str:
        """A word that changes when it begins to judge otherwise; part of the cache's keys."""
        ...

    @property
    def reach(self) -> StreamReach:
        """How much of a streamed answer it must see before a part of it may be said.

        `window`: what it finds begins at most `STREAM_WINDOW` characters before it is certain; a
        longer find is certain from that many on, and stays one when its middle is taken out.
        `whole`: all of it, so that the answer is held back until its end.
        `afterwards`: all of it, but it only flags, so that nothing waits.
        """
        ...

    async def check(self, text: GuardedText) -> Sequence[Finding]:
        """Return what was found, in any order."""
        ...
