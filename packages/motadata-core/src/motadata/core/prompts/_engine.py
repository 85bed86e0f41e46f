"""Compiles a template's text once, and renders it with checked values, within its limits.

Jinja's sandbox keeps a template away from Python's inside; the grammar, the lookups and the meter
here keep it from costing more than it should, and from letting data pose as instructions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from motadata.core.errors import (
    MissingExtraError,
    PromptError,
    PromptTemplateError,
    PromptVariableError,
)
from motadata.core.prompts._data_blocks import DATA_NOTICE, data_block
from motadata.core.prompts._filters import METER, metered_filters
from motadata.core.prompts._grammar import TESTS, meter, parse, variables_of
from motadata.core.prompts._limits import Meter, PromptLimits
from motadata.core.prompts._values import PlainValue, Untrusted


if TYPE_CHECKING:
    from jinja2 import Template
    from jinja2.sandbox import SandboxedEnvironment

_LOOP_FIELDS: Final = frozenset(("index", "index0", "first", "last", "length", "revindex"))


class Engine:
    """One compiled template.

    Raises:
        MissingExtraError: The extra `prompts` is not installed.
        PromptTemplateError: The text is too long, malformed, or says what templates may not.
    """

    __slots__ = ("_limits", "_template", "variables")

    def __init__(self, text: str, limits: PromptLimits) -> None:
        if len(text) > limits.max_template:
            message = f"The template has {len(text)} characters."
            raise PromptTemplateError(message, remedy=f"The limit is {limits.max_template}.")
        environment = _environment()
        tree = parse(environment, text)
        self.variables = variables_of(tree)
        meter(tree)
        self._limits = limits
        self._template = _compile(environment, tree)

    def render(self, values: Mapping[str, PlainValue]) -> str:
        """Return the prompt; led by a notice when it holds blocks of data.

        Raises:
            PromptVariableError: A field that the template uses is absent.
            PromptTemplateError: A value is not of the kind that the template takes it for.
            PromptLimitError: It would take more than its limits.
        """
        from jinja2 import UndefinedError

        gauge = Meter(self._limits)
        parts: list[str] = []
        try:
            for part in self._template.generate({**values, METER: gauge}):
                gauge.output(len(part))
                parts.append(part)
        except PromptError:
            raise
        except UndefinedError as error:
            message = f"The template uses a field that its variables lack: {error.message}."
            raise PromptVariableError(
                message, remedy="Pass it, or give it a default in the template."
            ) from None
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            # Without the cause, which may quote a value.
            message = f"The template takes a value for what it is not ({type(error).__name__})."
            raise PromptTemplateError(
                message, remedy="Compare its text with what its variables hold."
            ) from None
        prompt = "".join(parts)
        return f"{DATA_NOTICE}\n\n{prompt}" if _HAS_DATA in prompt else prompt


_HAS_DATA: Final = "<data name="


def _compile(environment: SandboxedEnvironment, tree: object) -> Template:
    from jinja2 import Template, TemplateError

    try:
        code = environment.compile(tree)  # type: ignore[call-overload]  # takes a tree as well as a text
        return Template.from_code(environment, code, environment.make_globals(None))
    except (TemplateError, SyntaxError, RecursionError, ValueError, MemoryError) as error:
        message = f"The template cannot be compiled ({type(error).__name__})."
        raise PromptTemplateError(message, remedy="Write it simpler.") from error


def _environment() -> SandboxedEnvironment:
    try:
        from jinja2 import StrictUndefined
        from jinja2.runtime import LoopContext, Undefined
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError as error:
        raise MissingExtraError("jinja2", extra="prompts", distribution="motadata-core") from error

    class PromptEnvironment(ImmutableSandboxedEnvironment):
        """Looks things up in dicts and lists only, never in Python objects."""

        intercepted_binops = frozenset(("+", "-"))

        def getattr(self, obj: object, attribute: str) -> object:
            if isinstance(obj, LoopContext) and attribute in _LOOP_FIELDS:
                return getattr(obj, attribute)
            return self.getitem(obj, attribute)

        def getitem(self, obj: object, argument: object) -> object:
            if isinstance(obj, Undefined):
                # Raises, and says what is missing.
                str(obj)
            if isinstance(obj, Mapping) and isinstance(argument, str) and argument in obj:
                return obj[argument]
            if isinstance(obj, list | tuple) and isinstance(argument, int):
                return obj[argument] if -len(obj) <= argument < len(obj) else self._absent("item")
            # A name that a value holds is no name of ours to repeat.
            is_ours = isinstance(argument, str) and not isinstance(argument, Untrusted)
            return self._absent(repr(argument) if is_ours else "a key or item")

        def call_binop(self, _: object, operator: str, left: object, right: object) -> object:
            if not (isinstance(left, int | float) and isinstance(right, int | float)):
                message = f"The template applies {operator!r} to what is no number."
                raise PromptTemplateError(
                    message, remedy="Write texts one after another; put no operator between them."
                )
            return left + right if operator == "+" else left - right

        def _absent(self, what: str) -> Undefined:
            return self.undefined(hint=what)

    environment = PromptEnvironment(
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
        optimized=False,
        cache_size=0,
    )
    environment.globals.clear()
    known = environment.tests
    environment.tests = {name: test for name, test in known.items() if name in TESTS}
    environment.filters = {"default": environment.filters["default"], **metered_filters()}
    return environment


def _shown(value: object) -> object:
    """Return a value as it stands in the prompt: what others wrote, in a block of its own."""
    from jinja2.runtime import Undefined

    if isinstance(value, Undefined):
        return str(value)
    if value is None:
        return ""
    if isinstance(value, Untrusted):
        return data_block(value, name=value.origin)
    if isinstance(value, bool | int | float | str):
        return str(value)
    if isinstance(value, list | tuple | Mapping):
        message = "The template shows a list or a mapping as it is."
        raise PromptTemplateError(message, remedy="Loop over it, or write it | tojson.")
    message = f"The template shows a {type(value).__name__}."
    raise PromptTemplateError(message, remedy="Show text and numbers only.")
