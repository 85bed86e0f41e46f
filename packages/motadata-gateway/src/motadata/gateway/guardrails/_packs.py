"""Packs of compliance rules, this package's and a customer's, as guardrails."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

from pydantic import ValidationError as ShapeError

from motadata.core.errors import ConfigurationError
from motadata.core.protocols import Finding, FindingAction, GuardedText, StreamReach
from motadata.gateway.guardrails._data import names, read_text
from motadata.gateway.guardrails._folding import Folding
from motadata.gateway.guardrails._pack_models import PackData
from motadata.gateway.guardrails._pack_rules import Reading, judges_of
from motadata.gateway.guardrails._rule import TextRule, check_action, check_choice


_MOST_BYTES: Final = 1_000_000
# Only what is said can be judged without the rest of it.
_LOCAL: Final = frozenset({"forbidden"})


class CompliancePack(TextRule):
    """Judges answers by rules that are data: `itil` and `security` come with this package.

        CompliancePack("itil")
        CompliancePack(Path("our-rules.toml"), actions={"our-rule": "flag"})

    The default is to refuse. In a streamed answer, a pack that says what a text must hold makes the
    answer wait for its end, unless it only flags.

    Args:
        source: Name of a pack of this package, a TOML file, or the data itself.
        action: What to do with a text that breaks a rule: flag or refuse; a pack of phrases only
            can mask as well.
        actions: Other actions, by rule.
        roles: What to read; None means everything.

    Raises:
        ConfigurationError: There is no such pack, its data is wrong, or an action does not fit.
        MissingExtraError: It has patterns, and the extra `guardrails` is not installed.
    """

    def __init__(
        self,
        source: str | Path | Mapping[str, object],
        action: FindingAction = "refuse",
        *,
        actions: Mapping[str, FindingAction] | None = None,
        roles: Collection[str] | None = ("answer", "user"),
    ) -> None:
        pack = _read(source)
        check_choice(tuple(actions or ()), [rule.name for rule in pack.rules], what="actions")
        self._folding = Folding()
        self._judges = judges_of(pack, self._folding)
        self._actions = {rule.name: (actions or {}).get(rule.name, action) for rule in pack.rules}
        for one in self._actions.values():
            check_action(one, what=pack.name)
        local = all(rule.kind in _LOCAL for rule in pack.rules)
        if not local and not {"mask", "tokenise"}.isdisjoint(self._actions.values()):
            message = f"The pack {pack.name!r} judges whole texts, which cannot be masked."
            raise ConfigurationError(message, remedy="Use flag or refuse.")
        reach: StreamReach = "window" if local else "whole"
        if not local and set(self._actions.values()) == {"flag"}:
            reach = "afterwards"
        described = (pack.model_dump_json(), sorted(self._actions.items()))
        super().__init__(pack.name, described=described, reach=reach, roles=roles)

    def find(self, text: GuardedText) -> Sequence[Finding]:
        """Return which rules the text breaks, and where."""
        reading = Reading(text, self._folding)
        return [
            Finding(f"{self.name}.{name}", self._actions[name], start, end)
            for judge in self._judges
            for name, start, end in judge.broken(reading)
        ]


def _read(source: str | Path | Mapping[str, object]) -> PackData:
    try:
        if isinstance(source, Mapping):
            return PackData.model_validate(source)
        if isinstance(source, str):
            check_choice([source], names(), what="source")
            return PackData.model_validate(tomllib.loads(read_text(source)))
        with source.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except ShapeError as error:
        raise _unfit(source, error) from error
    except OSError as error:
        message = f"The pack {str(source)!r} cannot be read: {error.strerror}."
        raise ConfigurationError(message, remedy="Name a TOML file.") from error
    if len(data) > _MOST_BYTES:
        message = f"The pack {str(source)!r} is larger than 1 MB."
        raise ConfigurationError(message, remedy="Split it.")
    try:
        return PackData.model_validate(tomllib.loads(data.decode("utf-8")))
    except ShapeError as error:
        raise _unfit(source, error) from error
    except ValueError as error:
        message = f"The pack {str(source)!r} is no TOML: {error}"
        raise ConfigurationError(message, remedy="Correct the file.") from error


def _unfit(source: object, error: ShapeError) -> ConfigurationError:
    problem = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, problem["loc"])) or "the whole"
    shown = source if isinstance(source, str | Path) else "that was passed"
    message = f"The pack {str(shown)!r} is wrong at {place}: {problem['msg']}."
    return ConfigurationError(message, remedy="Correct it.")
