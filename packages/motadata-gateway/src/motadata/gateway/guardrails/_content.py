"""Filters by words: content that is not wanted, and signs of a prompt injection."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from motadata.core.errors import ConfigurationError
from motadata.core.protocols import Finding, FindingAction, GuardedText
from motadata.gateway.guardrails._data import read_categories
from motadata.gateway.guardrails._phrases import PhraseTable
from motadata.gateway.guardrails._rule import TextRule, check_action, check_choice


class WordFilter(TextRule):
    """Finds phrases by category, however they are spelt.

    Letters of other alphabets that look the same, accents, case and invisible characters make no
    difference. In a streamed answer a phrase is found as long as it has at most 64 characters.

    Args:
        action: What to do with what is found.
        categories: Phrases by category; `word*` is the beginning of a word.
        actions: Other actions, by category.
        roles: What to read, such as `{"user"}`; None means everything.
        name: Name that the rules begin with.

    Raises:
        ConfigurationError: An action or category does not exist, or a phrase has no letters.
    """

    def __init__(
        self,
        action: FindingAction,
        categories: Mapping[str, Iterable[str]],
        *,
        actions: Mapping[str, FindingAction] | None = None,
        roles: Collection[str] | None = None,
        name: str = "words",
    ) -> None:
        listed = {category: tuple(phrases) for category, phrases in categories.items()}
        if not listed:
            message = f"The filter {name!r} has no categories."
            raise ConfigurationError(message, remedy="Give phrases by category.")
        check_choice(tuple(actions or ()), listed, what="actions")
        for one in (action, *(actions or {}).values()):
            check_action(one, what=name)
        self._actions = {category: (actions or {}).get(category, action) for category in listed}
        self._table = PhraseTable(listed)
        described = (sorted(listed.items()), sorted(self._actions.items()))
        super().__init__(name, described=described, roles=roles)

    def find(self, text: GuardedText) -> Sequence[Finding]:
        """Return where phrases stand."""
        return [
            Finding(f"{self.name}.{one.name}", self._actions[one.name], one.start, one.end)
            for one in self._table.find(text.text)
        ]


class ContentFilter(WordFilter):
    """Finds content of unwanted categories by this package's short lists of phrases, and yours.

    Lists of words find what is said plainly. They are no judge of meaning.

    Args:
        action: What to do with what is found.
        categories: Which ones: violence, self_harm, weapons, harassment, profanity, malware,
            sexual, and those of `words`. None means all.
        words: Phrases of yours by category, added to those of this package.
        actions: Other actions, by category.
        roles: What to read; None means everything.
        name: Name that the rules begin with.

    Raises:
        ConfigurationError: An action or category does not exist, or a phrase has no letters.
    """

    def __init__(
        self,
        action: FindingAction = "refuse",
        *,
        categories: Sequence[str] | None = None,
        words: Mapping[str, Iterable[str]] | None = None,
        actions: Mapping[str, FindingAction] | None = None,
        roles: Collection[str] | None = None,
        name: str = "content",
    ) -> None:
        known = dict(read_categories("content"))
        for category, phrases in (words or {}).items():
            known[category] = (*known.get(category, ()), *phrases)
        chosen = tuple(known) if categories is None else categories
        check_choice(chosen, known, what="categories")
        listed = {category: known[category] for category in chosen}
        super().__init__(action, listed, actions=actions, roles=roles, name=name)


class InjectionSignal(WordFilter):
    """Flags texts that talk like a prompt injection: a signal for people, and no defence.

    Lists of this kind find about one attempt in ten, and hardly any that hides in a document. What
    holds is to mark untrusted text as data (`Passage`) and to decide by policy what tools may do.

    Args:
        action: What to do; the default is to flag, and no more.
        roles: What to read; None means everything but the system's own messages.
        name: Name that the rules begin with.
    """

    def __init__(
        self,
        action: FindingAction = "flag",
        *,
        roles: Collection[str] = ("user", "assistant", "tool", "passage", "answer", "arguments"),
        name: str = "injection",
    ) -> None:
        super().__init__(action, read_categories("injection"), roles=roles, name=name)
