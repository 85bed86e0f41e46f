"""Logs, spans and metrics in one place; nothing is configured or sent unless asked for.

    _log = get_logger("rag")
    _rerankings = counter("motadata.rag.rerankings", unit="{reranking}")

    with span("rag.query", tenant_id=tenant, limit=8) as current:
        _log.info("query_answered", chunks=5)
        current.set_attribute("chunks", 5)
        _rerankings.add(1, tenant_id=tenant)

Each log line carries the tenant and the trace in which it was written, each span and each count its
tenant, each `SDKError` that leaves a span the trace id. Without an OpenTelemetry SDK nothing is
recorded, but the trace ids are there all the same, so that an answer, an error and a log line can
be matched.
"""

from motadata.core.observability._configuration import (
    configure_observability,
    shutdown_observability,
)
from motadata.core.observability._export import MetricsPage, render_metrics
from motadata.core.observability._logging import (
    Logger,
    LogLevel,
    LogSink,
    get_logger,
    prepare_logging,
)
from motadata.core.observability._message_calls import (
    MessageCall,
    MessageCalls,
    message_call,
    message_calls,
)
from motadata.core.observability._metrics import (
    BoundCounter,
    BoundHistogram,
    Counter,
    Histogram,
    counter,
    histogram,
    report_metrics_to,
)
from motadata.core.observability._operations import (
    ModelCall,
    Operation,
    count_lookups,
    database_call,
    model_call,
    record_request,
    statement_call,
    watch_lookups,
)
from motadata.core.observability._personal_data import hide_personal_data
from motadata.core.observability._propagation import extract_trace, inject_trace, with_context
from motadata.core.observability._redaction import redact
from motadata.core.observability._repeats import Repeated, adopt_logger
from motadata.core.observability._traced import traced
from motadata.core.observability._tracing import Span, SpanKind, current_trace_id, span


__all__ = [
    "BoundCounter",
    "BoundHistogram",
    "Counter",
    "Histogram",
    "LogLevel",
    "LogSink",
    "Logger",
    "MessageCall",
    "MessageCalls",
    "MetricsPage",
    "ModelCall",
    "Operation",
    "Repeated",
    "Span",
    "SpanKind",
    "adopt_logger",
    "configure_observability",
    "count_lookups",
    "counter",
    "current_trace_id",
    "database_call",
    "extract_trace",
    "get_logger",
    "hide_personal_data",
    "histogram",
    "inject_trace",
    "message_call",
    "message_calls",
    "model_call",
    "prepare_logging",
    "record_request",
    "redact",
    "render_metrics",
    "report_metrics_to",
    "shutdown_observability",
    "span",
    "statement_call",
    "traced",
    "watch_lookups",
    "with_context",
]
