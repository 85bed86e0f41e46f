"""Guardrails one after the other over one text, and what becomes of the text."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from motadata.core.errors import ConfigurationError, DeadlineExceededError, GuardrailError
from motadata.core.observability import get_logger
from motadata.core.protocols import Finding, GuardedText, Guardrail
from motadata.gateway._call import CallNotes, Verdict
from motadata.gateway.guardrails._rule import TextRule, is_short


Replace = Callable[[Finding, str], str]
"""What stands in the place of a masked piece of text."""

_DONE: Final = {"flag": "flagged", "mask": "masked", "tokenise": "tokenised", "refuse": "refused"}

_log = get_logger("gateway")


class Chain:
    """Guardrails in their order, asked together; it keeps nothing of what they read.

    Args:
        guardrails: Each with a name of its own.
        timeout: Seconds for those that may wait, for one text.

    Raises:
        ConfigurationError: Two have the same name.
    """

    def __init__(self, guardrails: Sequence[Guardrail], *, timeout: float) -> None:
        names = [guardrail.name for guardrail in guardrails]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            message = f"Two guardrails are named {twice!r}."
            raise ConfigurationError(message, remedy="Give each a name of its own.")
        self._guardrails = tuple(guardrails)
        self._timeout = timeout
        rules = [guardrail for guardrail in guardrails if isinstance(guardrail, TextRule)]
        self._waits = len(rules) < len(guardrails)
        self._rules = tuple(rules)

    def __bool__(self) -> bool:
        """Tell whether there is any."""
        return bool(self._guardrails)

    def only(self, *reaches: str) -> Chain:
        """Return the chain of those that must see so much of a stream."""
        chosen = [guardrail for guardrail in self._guardrails if guardrail.reach in reaches]
        return Chain(chosen, timeout=self._timeout)

    async def find(self, text: GuardedText) -> list[Finding]:
        """Return what applies, by place, without overlaps; the stricter and longer one wins.

        Raises:
            GuardrailError: One could not judge; its text is refused then.
        """
        if not self._waits and is_short(text):
            return self._found_at_once(text)
        found: list[Finding] = []
        if self._waits:
            await self._ask_waiting(text, found)
        else:
            for rule in self._rules:
                found += await rule.check(text)
        return _apart(found) if len(found) > 1 else found

    def _found_at_once(self, text: GuardedText) -> list[Finding]:
        found: list[Finding] = []
        for rule in self._rules:
            found += rule.findings(text)
        return _apart(found) if len(found) > 1 else found

    async def apply(self, text: GuardedText, notes: CallNotes, replaced: Replace) -> str:
        """Return a whole text as it may go on.

        Raises:
            GuardrailError: It may not.
        """
        at_once = not self._waits and is_short(text)
        findings = self._found_at_once(text) if at_once else await self.find(text)
        if not findings:
            return text.text
        pieces: list[str] = []
        position = 0
        for finding in findings:
            settle(finding, text, notes)
            if finding.action in ("mask", "tokenise"):
                pieces.append(text.text[position : finding.start])
                pieces.append(replaced(finding, text.text[finding.start : finding.end]))
                position = finding.end
        return "".join(pieces) + text.text[position:]

    async def _ask_waiting(self, text: GuardedText, found: list[Finding]) -> None:
        name = ""
        try:
            async with asyncio.timeout(self._timeout):
                for guardrail in self._guardrails:
                    name = guardrail.name
                    found += _checked(await guardrail.check(text), len(text.text))
        except (GuardrailError, DeadlineExceededError):
            raise
        except Exception as error:
            # A guardrail is the platform's own code and may raise anything; what it could not
            # judge is refused, since an answer that nobody looked at is what it was there to stop.
            _log.warning("guardrail_failed", rule=name, error_type=type(error).__name__)
            message = f"The guardrail {name!r} could not judge the {text.stage}."
            raise GuardrailError(
                message, rule=name, remedy="Repair the guardrail.", tenant_id=text.tenant_id
            ) from error


def settle(finding: Finding, text: GuardedText, notes: CallNotes) -> None:
    """Record a finding once a call, and refuse the text when it says so.

    Raises:
        GuardrailError: It refuses the text; the message names the rule only.
    """
    verdict = Verdict(finding.rule, _DONE[finding.action], text.stage)
    if verdict not in notes.verdicts:
        notes.verdicts.append(verdict)
    if finding.action == "refuse":
        message = f"The rule {finding.rule!r} refused the {text.stage}."
        remedy = "Change what is asked, or the policy."
        raise GuardrailError(message, rule=finding.rule, remedy=remedy, tenant_id=text.tenant_id)


def _apart(found: list[Finding]) -> list[Finding]:
    """Return findings in the order of their places; of two that overlap in a change, one."""
    refusals = [finding for finding in found if finding.action == "refuse"]
    flags = [finding for finding in found if finding.action == "flag"]
    changes = [finding for finding in found if finding.action in ("mask", "tokenise")]
    kept: list[Finding] = []
    for finding in sorted(changes, key=lambda one: (one.start, -one.end)):
        if not kept or finding.start >= kept[-1].end:
            kept.append(finding)
        elif finding.end > kept[-1].end:
            # The rest of it is changed as well: nothing found may be left standing.
            last = kept[-1]
            rest = Finding(finding.rule, "mask", last.end, finding.end, finding.mark)
            kept.append(rest)
    return sorted([*refusals, *flags, *kept], key=lambda one: (one.start, one.action != "refuse"))


def _checked(found: Sequence[Finding], length: int) -> Sequence[Finding]:
    for finding in found:
        if finding.action not in _DONE or not 0 <= finding.start <= finding.end <= length:
            message = f"The rule {finding.rule!r} found something outside of the text."
            raise ConfigurationError(message, remedy="Count characters of `text.text`.")
    return found
