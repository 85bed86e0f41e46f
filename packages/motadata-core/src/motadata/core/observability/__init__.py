"""Logs, spans and their correlation; nothing is configured and nothing is sent unless asked for.

    _log = get_logger("rag")

    with span("rag.query", tenant_id=tenant, limit=8) as current:
        _log.info("query_answered", chunks=5)
        current.set_attribute("chunks", 5)

Each log line carries the tenant and the trace in which it was written, each span its tenant, each
`SDKError` that leaves a span the trace id. Without an OpenTelemetry SDK nothing is recorded, but
the trace ids are there all the same, so that an answer, an error and a log line can be matched.
"""

from motadata.core.observability._configuration import LogLevel, configure_observability
from motadata.core.observability._logging import Logger, LogSink, get_logger, prepare_logging
from motadata.core.observability._personal_data import hide_personal_data
from motadata.core.observability._propagation import extract_trace, inject_trace, with_context
from motadata.core.observability._redaction import redact
from motadata.core.observability._tracing import Span, SpanKind, current_trace_id, span


__all__ = [
    "LogLevel",
    "LogSink",
    "Logger",
    "Span",
    "SpanKind",
    "configure_observability",
    "current_trace_id",
    "extract_trace",
    "get_logger",
    "hide_personal_data",
    "inject_trace",
    "prepare_logging",
    "redact",
    "span",
    "with_context",
]
