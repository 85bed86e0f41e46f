"""The language of a text, told by lingua; extra `language`."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Sequence
from typing import Final, Protocol

from motadata.core.errors import MissingExtraError
from motadata.core.protocols import Finding, FindingAction, GuardedText, StreamReach
from motadata.gateway.guardrails._formats import check_whole_action
from motadata.gateway.guardrails._rule import TextRule, check_choice


_SHORTEST: Final = 24
# The beginning of a text tells its language; more of it only takes longer.
_READ: Final = 1_000


class _Detector(Protocol):
    def detect_language_of(self, text: str) -> object: ...


class Language(TextRule):
    """Refuses texts that are in none of some languages.

    A streamed answer waits for its end, unless it is only flagged. Texts of less than 24 characters
    pass: they do not tell. The detector takes some tens of megabytes for each language that it
    tells apart, and loads them with its first text.

    Args:
        allowed: ISO 639-1 codes, such as `["en", "de"]`.
        told_apart: Codes of the languages that a text may be in; None means the twelve most common.
        action: `refuse` or `flag`.
        name: Name of the rule.

    Raises:
        ConfigurationError: A code is unknown, or the action does not fit.
        MissingExtraError: The extra `language` is not installed.
    """

    def __init__(
        self,
        allowed: Collection[str],
        *,
        told_apart: Collection[str] | None = None,
        action: FindingAction = "refuse",
        name: str = "format.language",
    ) -> None:
        check_whole_action(action, what=name)
        try:
            library = importlib.import_module("lingua")
        except ModuleNotFoundError as error:
            package = "lingua-language-detector"
            raise MissingExtraError(
                package, extra="language", distribution="motadata-gateway"
            ) from error
        known = {one.iso_code_639_1.name.lower(): one for one in library.Language.all()}
        check_choice(allowed, known, what="allowed")
        check_choice(told_apart or (), known, what="told_apart")
        codes = sorted({*allowed, *(told_apart or _COMMON)})
        self._allowed = frozenset(known[code] for code in allowed)
        builder = library.LanguageDetectorBuilder.from_languages(*(known[code] for code in codes))
        self._detector: _Detector = builder.with_low_accuracy_mode().build()
        self._action: FindingAction = action
        reach: StreamReach = "afterwards" if action == "flag" else "whole"
        described = (sorted(allowed), codes, action)
        super().__init__(name, described=described, reach=reach, roles={"answer", "user"})

    def find(self, text: GuardedText) -> Sequence[Finding]:
        """Return one finding when the text is in another language."""
        if len(text.text) < _SHORTEST:
            return []
        language = self._detector.detect_language_of(text.text[:_READ])
        fits = language is None or language in self._allowed
        return [] if fits else [Finding(self.name, self._action)]


_COMMON: Final = ("en", "de", "fr", "es", "it", "pt", "nl", "pl", "ru", "zh", "ja", "hi")
