"""The base of every error, and what is wrong with settings."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import ClassVar


class SDKError(Exception):
    """Base of everything that the SDK raises on purpose.

    Args:
        message: What was wrong, with which value.
        remedy: What the reader can do about it; appended to the message.
        tenant_id: The tenant for whom the operation ran, when there was one.
        trace_id: The trace in which it happened, 32 hexadecimal digits; None means the current one.
        retryable: Whether the same call may succeed later; None takes the class's default.
    """

    code: ClassVar[str] = "sdk_error"
    """Stable, machine-readable name; it does not change when the wording of a message does."""

    component: ClassVar[str] = "core"
    """The room of the SDK that raises it."""

    default_retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        remedy: str | None = None,
        tenant_id: str | None = None,
        trace_id: str | None = None,
        retryable: bool | None = None,
    ) -> None:
        super().__init__(f"{message} {remedy}" if remedy else message)
        self.remedy = remedy
        self.tenant_id = tenant_id
        self.trace_id = trace_id or _current_trace_id()
        self.retryable = self.default_retryable if retryable is None else retryable

    def __reduce__(self) -> tuple[Callable[..., SDKError], tuple[object, ...]]:
        """Travel between processes as message and attributes, whatever the constructor asks for."""
        return _rebuild, (type(self), self.args, self.__dict__)


def _current_trace_id() -> str | None:
    """Return the trace of the current span; who never imported the API has none."""
    trace = sys.modules.get("opentelemetry.trace")
    current = getattr(trace, "get_current_span", None)
    if current is None:
        return None
    context = current().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else None


def _rebuild(
    kind: type[SDKError], args: tuple[object, ...], attributes: dict[str, object]
) -> SDKError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


class ConfigurationError(SDKError):
    """A setting is missing, malformed or contradicts another."""

    code = "configuration_error"


class MissingExtraError(ConfigurationError):
    """An optional dependency is needed and not installed; the message names the extra."""

    code = "missing_extra"

    def __init__(self, package: str, *, extra: str, distribution: str) -> None:
        super().__init__(
            f"This needs the package {package!r}, which is not installed.",
            remedy=f"Install it with: pip install '{distribution}[{extra}]'",
        )
        self.extra = extra
