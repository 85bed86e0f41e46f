"""A prompt with variables: versioned, checked when it is made, and immutable."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Final

from motadata.core.errors import PromptError, PromptTemplateError, PromptVariableError
from motadata.core.prompts._engine import Engine
from motadata.core.prompts._limits import PromptLimits
from motadata.core.prompts._values import Intake, PlainValue
from motadata.core.tenancy import Identifier


_VARIABLE: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9_]{0,63}", re.ASCII)
_LARGEST_VERSION: Final = 2**31 - 1
_DEFAULT_LIMITS: Final = PromptLimits()


class PromptTemplate:
    """One version of a named prompt.

    The text is written in a part of Jinja's language: `{{ variable }}`, `{{ incident.title }}`,
    `{% if %}`, `{% for %}`, comparisons and a few filters. Nothing in it can be called or assigned.

    Text in a variable is taken for somebody else's: where the template shows it, it stands between
    `<data name="variable">` and `</data>`, which it cannot close, and a notice in front of the
    prompt says so. The texts of `trusted` variables stand there as they are.

    Args:
        name: An identifier, `[A-Za-z0-9_-]{1,64}`.
        text: What is sent to the model, with its variables.
        version: From 1 upwards.
        required: Variables that must be given; None means all that the text uses and `defaults`
            does not have. Each must be in the text.
        defaults: Variables that may be left out, and what stands for them.
        trusted: Variables whose texts are as trusted as the template.
        description: What it is for.
        limits: How much a rendering may take.

    Raises:
        MissingExtraError: The extra `prompts` is not installed.
        InvalidIdentifierError: The name breaks the grammar.
        PromptTemplateError: The text is malformed, uses what templates may not, or does not agree
            with the variables that are declared.
    """

    __slots__ = (
        *("_defaults", "_description", "_engine", "_limits", "_name", "_required"),
        *("_text", "_trusted", "_version"),
    )

    def __init__(
        self,
        name: str,
        text: str,
        *,
        version: int = 1,
        required: Iterable[str] | None = None,
        defaults: Mapping[str, PlainValue] | None = None,
        trusted: Iterable[str] = (),
        description: str = "",
        limits: PromptLimits = _DEFAULT_LIMITS,
    ) -> None:
        self._name = str(Identifier(name))
        self._version = version
        self._text = text
        self._trusted = frozenset(trusted)
        self._description = description
        self._limits = limits
        if isinstance(version, bool) or not 1 <= version <= _LARGEST_VERSION:
            fault = f"has the version {version!r}"
            raise self._fault(fault, "Count versions from 1.")
        try:
            self._engine = Engine(text, limits)
            intake = Intake(limits.max_input, frozenset(defaults or ()))
            self._defaults = {key: intake.take(key, item) for key, item in (defaults or {}).items()}
        except PromptError as error:
            raise self._at(error) from error
        used = self._engine.variables
        self._required = used - self._defaults.keys() if required is None else frozenset(required)
        self._check_declarations(used)

    @property
    def name(self) -> str:
        """What it is called."""
        return self._name

    @property
    def version(self) -> int:
        """Which version of its name it is."""
        return self._version

    @property
    def text(self) -> str:
        """What is sent to the model, with its variables."""
        return self._text

    @property
    def description(self) -> str:
        """What it is for."""
        return self._description

    @property
    def required(self) -> frozenset[str]:
        """Variables that must be given."""
        return self._required

    @property
    def defaults(self) -> Mapping[str, PlainValue]:
        """Variables that may be left out, and what stands for them."""
        return dict(self._defaults)

    @property
    def trusted(self) -> frozenset[str]:
        """Variables whose texts are as trusted as the template."""
        return self._trusted

    @property
    def variables(self) -> frozenset[str]:
        """All variables that may be given."""
        return self._required | self._defaults.keys()

    @property
    def checksum(self) -> str:
        """SHA-256, hexadecimal, over all that shapes the prompt."""
        shape = [
            *(self._name, self._version, self._text, sorted(self._required)),
            *(self._defaults, sorted(self._trusted)),
        ]
        return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()

    def __repr__(self) -> str:
        """Show name and version; the text is nobody's business in a log."""
        return f"PromptTemplate({self._name!r}, version={self._version})"

    def render(self, variables: Mapping[str, object] | None = None) -> str:
        """Return the prompt for these variables.

        It runs on the calling thread, for at most the limits' `timeout`; `PromptLibrary.render`
        does it beside the event loop.

        Args:
            variables: Text, numbers, booleans, None, and lists and dicts of these, by name.

        Raises:
            PromptVariableError: Required ones are missing, unknown ones are given, or one holds
                what no template can show. The message names them, never what they hold.
            PromptTemplateError: A value is not of the kind that the template takes it for.
            PromptLimitError: It would take more than the limits.
        """
        given = dict(variables or {})
        self._check_names(given)
        intake = Intake(self._limits.max_input, self._trusted)
        try:
            # A default is part of the template, so its text is trusted and was checked before.
            values = dict(self._defaults) | {key: intake.take(key, given[key]) for key in given}
            return self._engine.render(values)
        except PromptError as error:
            raise self._at(error) from error

    def _check_names(self, given: Mapping[str, object]) -> None:
        missing = tuple(sorted(self._required - given.keys()))
        unknown = tuple(sorted(str(name) for name in given.keys() - self.variables))
        if not missing and not unknown:
            return
        wrong = [
            f"{what}: {', '.join(map(repr, names))}"
            for what, names in (("missing", missing), ("unknown", unknown))
            if names
        ]
        message = f"Variables of the prompt {self._shown} are {'; '.join(wrong)}."
        known = ", ".join(sorted(self.variables)) or "none"
        raise PromptVariableError(
            message, missing=missing, unknown=unknown, remedy=f"It has: {known}."
        )

    def _check_declarations(self, used: frozenset[str]) -> None:
        for name in sorted(self.variables | self._trusted):
            if _VARIABLE.fullmatch(name) is None:
                fault = f"declares the variable {name!r}"
                raise self._fault(fault, "Use letters, digits and underscores.")
        for names, fault in (
            (used - self.variables, "uses variables that are not declared"),
            (self.variables - used, "declares variables that its text does not use"),
            (self._required & self._defaults.keys(), "requires variables that have a default"),
            (self._trusted - self.variables, "trusts variables that it does not have"),
        ):
            if names:
                which = f"{fault}: {', '.join(map(repr, sorted(names)))}"
                raise self._fault(which, "Correct the text or the declaration.")

    @property
    def _shown(self) -> str:
        return f"{self._name!r} version {self._version}"

    def _fault(self, fault: str, remedy: str) -> PromptTemplateError:
        return PromptTemplateError(f"The prompt {self._shown} {fault}.", remedy=remedy)

    def _at(self, error: PromptError) -> PromptError:
        """Return an error of the engine as one that says of which prompt."""
        return type(error)(f"The prompt {self._shown}: {error}")
