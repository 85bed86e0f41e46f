"""Stand-ins for what the model need not know, and their way back into its answer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Final

from motadata.core.protocols import Finding


_STAND_IN: Final = re.compile(r"\[[A-Z][A-Z_]{0,19}_[0-9]{1,6}\]", re.ASCII)
_BEGUN: Final = re.compile(r"\[[A-Z_0-9]{0,27}\Z", re.ASCII)
_NO_NAME: Final = re.compile(r"[^A-Z]+")


class TokenVault:
    """The originals of one call, by what stands in for them; forgotten with the call.

    Equal originals have one stand-in, numbered in the order in which they appear, so that equal
    requests stay equal. One that the texts of the call hold already is not given out.

    Args:
        texts: Returns all texts of the call as one.
    """

    def __init__(self, texts: Callable[[], str]) -> None:
        self._texts = texts
        self._taken: set[str] | None = None
        self._stand_ins: dict[tuple[str, str], str] = {}
        self._originals: dict[str, str] = {}
        self._counts: dict[str, int] = {}

    def __bool__(self) -> bool:
        """Tell whether anything was replaced."""
        return bool(self._originals)

    def replaced(self, finding: Finding, original: str) -> str:
        """Return what stands in for a piece of text."""
        if finding.action != "tokenise":
            return finding.mark
        kind = _NO_NAME.sub("_", finding.mark.upper()).strip("_")[:20].strip("_") or "VALUE"
        known = self._stand_ins.get((kind, original))
        if known is None:
            known = self._stand_ins[kind, original] = self._new(kind)
            self._originals[known] = original
        return known

    def restored(self, text: str) -> str:
        """Return a text with the originals in place of what stood in for them."""
        return _STAND_IN.sub(self._original, text) if "[" in text else text

    def restored_json(self, text: str) -> str:
        """Return a JSON text with the originals, escaped as its strings need."""
        return _STAND_IN.sub(lambda found: json.dumps(self._original(found))[1:-1], text)

    def _original(self, found: re.Match[str]) -> str:
        return self._originals.get(found.group(), found.group())

    def _new(self, kind: str) -> str:
        if self._taken is None:
            self._taken = set(_STAND_IN.findall(self._texts()))
        while True:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            name = f"[{kind}_{self._counts[kind]}]"
            if name not in self._taken:
                return name


class RestoredAnswer:
    """The parts of a streamed answer with the originals; what may be half a stand-in waits."""

    def __init__(self, vault: TokenVault) -> None:
        self._vault = vault
        self._waiting = ""

    def take(self, piece: str) -> str:
        """Add a part, and return what may be said now."""
        text = self._waiting + piece
        begun = _BEGUN.search(text, max(0, len(text) - 28)) if "[" in text else None
        end = len(text) if begun is None else begun.start()
        self._waiting = text[end:]
        return self._vault.restored(text[:end])

    def finish(self) -> str:
        """Return what waited for more."""
        text, self._waiting = self._waiting, ""
        return text
