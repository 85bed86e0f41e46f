"""Structured log lines, each with its tenant and trace, written by structlog.

structlog is imported with the first line that is written, not with this module: it takes a quarter
of a second, and most processes that import the SDK never log.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal, Self, TextIO

from motadata.core.observability._redaction import clean_text, redact
from motadata.core.observability._tracing import log_context


if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger, Processor, WrappedLogger

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]

LogSink = Callable[[Mapping[str, object]], None]
"""Takes each line, redacted, instead of the stream: a bridge into the host's own logging."""

_FRAMES: Final = 8
_RESERVED: Final = frozenset(
    ("timestamp", "level", "service", "component", "event", "tenant", "trace_id", "span_id")
)


class LogOutput:
    """Where log lines go, and from which level on; there is one a process.

    It is the only mutable state of this package: loggers are made while modules are imported,
    before an application can say what it wants.
    """

    def __init__(self) -> None:
        self.configure()

    def configure(
        self,
        *,
        level: int = logging.WARNING,
        json: bool = True,
        service: str | None = None,
        stream: TextIO | None = None,
        sink: LogSink | None = None,
    ) -> None:
        """Replace all that was said before; the pipeline is built with the next line."""
        self.level = level
        self._json = json
        self._service = service
        self._stream = stream
        self._sink = sink
        self._pipeline: FilteringBoundLogger | None = None

    def pipeline(self) -> FilteringBoundLogger:
        """Return the structlog logger through which every line goes."""
        if self._pipeline is None:
            import structlog

            self._pipeline = structlog.wrap_logger(
                _Writer(self._stream, self._sink),
                processors=[structlog.contextvars.merge_contextvars, self._stamp, self._renderer()],
                wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET),
            ).bind()
        return self._pipeline

    def _renderer(self) -> Processor:
        import structlog

        if self._sink is not None:
            return _as_keywords
        if self._json:
            return structlog.processors.JSONRenderer(ensure_ascii=False)
        stream = self._stream or sys.stderr
        return structlog.dev.ConsoleRenderer(colors=stream.isatty())

    def _stamp(
        self, _: WrappedLogger, level: str, fields: MutableMapping[str, object]
    ) -> Mapping[str, object]:
        """Say when, what, for whom and in which trace; redact everything else."""
        tenant, trace_id, span_id = log_context()
        fixed = {
            "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "level": level,
            "service": self._service,
            "component": fields.pop("_component"),
            "event": clean_text(str(fields.pop("event"))),
            "tenant": fields.pop("tenant_id", None) or tenant,
            "trace_id": trace_id,
            "span_id": span_id,
        }
        line = {name: value for name, value in fixed.items() if value is not None}
        for name, value in fields.items():
            line[f"field_{name}" if name in _RESERVED else name] = redact(name, value)
        return line


class _Writer:
    """The end of the pipeline: a stream that is looked up late, or the host's sink."""

    def __init__(self, stream: TextIO | None, sink: LogSink | None) -> None:
        self._stream = stream
        self._sink = sink

    def _write(self, line: str = "", **fields: object) -> None:
        if self._sink is not None:
            self._sink(fields)
            return
        stream = self._stream or sys.stderr
        try:
            stream.write(line + "\n")
            stream.flush()
        except (OSError, ValueError):
            # A closed or full stream must not fail the operation that had something to say.
            return

    debug = info = warning = error = _write


class Logger:
    """Writes log lines of one component; made by `get_logger`.

    The first argument is the event, a constant such as `document_stored`; what varies goes into the
    keywords, which are redacted. The keyword `tenant_id` names the tenant where no scope does.
    """

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[str, object]) -> None:
        self._fields = fields

    def bind(self, **fields: object) -> Self:
        """Return a logger that adds `fields` to each of its lines."""
        return type(self)({**self._fields, **fields})

    def debug(self, event: str, **fields: object) -> None:
        """Write what helps while developing."""
        if output.level <= logging.DEBUG:
            output.pipeline().debug(event, **{**self._fields, **fields})

    def info(self, event: str, **fields: object) -> None:
        """Write what happens in normal operation."""
        if output.level <= logging.INFO:
            output.pipeline().info(event, **{**self._fields, **fields})

    def warning(self, event: str, **fields: object) -> None:
        """Write what may become a problem."""
        if output.level <= logging.WARNING:
            output.pipeline().warning(event, **{**self._fields, **fields})

    def error(self, event: str, *, error: BaseException | None = None, **fields: object) -> None:
        """Write what failed; of `error`, its type, code and where it came from."""
        if output.level <= logging.ERROR:
            if error is not None:
                fields["frames"] = _frames(error)
                fields["error"] = error
            output.pipeline().error(event, **{**self._fields, **fields})

    def exception(self, event: str, **fields: object) -> None:
        """Write what failed, with the exception that is being handled."""
        self.error(event, error=sys.exception(), **fields)


output: Final = LogOutput()


def prepare_logging() -> None:
    """Import what writes log lines; a quarter of a second that belongs off the event loop."""
    output.pipeline()


def get_logger(component: str) -> Logger:
    """Return the logger of a component; safe to call while a module is imported.

    Until `configure_observability` is called, lines from WARNING up go to standard error.
    """
    return Logger({"_component": component})


def _frames(error: BaseException) -> list[str]:
    stack = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in stack]


def _as_keywords(
    _: WrappedLogger, _level: str, line: MutableMapping[str, object]
) -> tuple[tuple[()], Mapping[str, object]]:
    return (), line
