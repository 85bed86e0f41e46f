"""Structured log lines: one JSON object each, with tenant and trace, without secrets."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final, Self, TextIO

from motadata.core.observability._redaction import clean_text, describe_error, redact
from motadata.core.observability._tracing import log_context


_FRAMES: Final = 8

_RESERVED: Final = frozenset(
    ("timestamp", "level", "component", "event", "tenant", "trace_id", "span_id")
)


class LogOutput:
    """Where log lines go, and from which level on; there is one a process.

    It is the only mutable state of this module: loggers are made while modules are imported, before
    an application can say what it wants.
    """

    def __init__(self) -> None:
        self.level = logging.WARNING
        self.stream: TextIO | None = None
        self.json = True
        self.service: str | None = None


output: Final = LogOutput()


class Logger:
    """Writes log lines of one component; made by `get_logger`.

    The first argument is the event, a constant such as `document_stored`; what varies goes into the
    keywords, which are redacted.
    """

    __slots__ = ("_component", "_fields")

    def __init__(self, component: str, fields: Mapping[str, object]) -> None:
        self._component = component
        self._fields = fields

    def bind(self, **fields: object) -> Self:
        """Return a logger that adds `fields` to each of its lines."""
        return type(self)(self._component, {**self._fields, **fields})

    def debug(self, event: str, **fields: object) -> None:
        """Write what helps while developing."""
        if output.level <= logging.DEBUG:
            self._write("debug", event, fields)

    def info(self, event: str, **fields: object) -> None:
        """Write what happens in normal operation."""
        if output.level <= logging.INFO:
            self._write("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Write what may become a problem."""
        if output.level <= logging.WARNING:
            self._write("warning", event, fields)

    def error(self, event: str, *, error: BaseException | None = None, **fields: object) -> None:
        """Write what failed; of `error`, its type, code and where it came from."""
        if output.level <= logging.ERROR:
            if error is not None:
                fields["error"] = {**describe_error(error), "frames": _frames(error)}
            self._write("error", event, fields)

    def exception(self, event: str, **fields: object) -> None:
        """Write what failed, with the exception that is being handled."""
        self.error(event, error=sys.exception(), **fields)

    def _write(self, level: str, event: str, fields: Mapping[str, object]) -> None:
        tenant, trace_id, span_id = log_context()
        line: dict[str, object] = {
            "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "level": level,
            "component": self._component,
            "event": clean_text(event),
            "tenant": tenant,
            "trace_id": trace_id,
            "span_id": span_id,
        }
        line = {name: value for name, value in line.items() if value is not None}
        for name, value in {**self._fields, **fields}.items():
            line[f"field_{name}" if name in _RESERVED else name] = redact(name, value)
        text = json.dumps(line, ensure_ascii=False, default=str)
        try:
            print(text, file=output.stream or sys.stderr, flush=True)
        except (OSError, ValueError):
            # A closed or full stream must not fail the operation that had something to say.
            return


def get_logger(component: str) -> Logger:
    """Return the logger of a component; safe to call while a module is imported.

    Until `configure_observability` is called, lines from WARNING up go to standard error.
    """
    return Logger(component, {})


def _frames(error: BaseException) -> list[str]:
    stack = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in stack]


Renderer = Callable[[Mapping[str, object]], str]
