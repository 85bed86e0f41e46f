"""Every error that the SDK raises, in one tree, so that one component can catch another's.

```
SDKError
├── ConfigurationError
│   └── MissingExtraError
├── TenantError
│   ├── TenantRequiredError
│   └── InvalidIdentifierError
├── AgentError
│   ├── AgentConfigurationError
│   ├── AgentExecutionError
│   └── AgentCommunicationError
├── RAGError
│   ├── DocumentProcessingError
│   ├── DocumentNotFoundError
│   └── RetrievalError
├── GatewayError
│   ├── ProviderError
│   │   └── ContentPolicyError
│   ├── RateLimitError
│   ├── ValidationError
│   │   ├── ContextLengthError
│   │   ├── GuardrailError
│   │   └── OutputFormatError
│   ├── BudgetExceededError
│   └── CircuitOpenError
├── DatabaseError
│   ├── ConnectionError
│   ├── QueryError
│   └── MigrationError
├── IngestionError
│   ├── EmptyFileError
│   ├── FileTooLargeError
│   ├── UnsupportedFormatError
│   ├── UnreadableFileError
│   └── LoaderCrashedError
├── ResilienceError
│   ├── DeadlineExceededError
│   └── OverloadError
├── CacheError
├── MessagingError
├── CodecError
├── SecretError
│   ├── SecretNotFoundError
│   ├── SecretUnreadableError
│   └── KeyManagementError
├── PromptError
│   ├── PromptNotFoundError
│   ├── PromptTemplateError
│   ├── PromptVariableError
│   ├── PromptLimitError
│   └── ContextWindowError
├── MLError
└── AccessError
    ├── AuthenticationError
    └── PermissionDeniedError
```

A message names what was wrong, the offending value and the remedy. It never holds a secret, a
prompt or the text of a document. No exception of a third-party library leaves a public method
unwrapped: it is the `__cause__` of one of these.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar


if TYPE_CHECKING:
    from datetime import datetime


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


class TenantError(SDKError):
    """Something is wrong with the tenant of an operation."""

    code = "tenant_error"


class TenantRequiredError(TenantError):
    """An operation was called without a tenant and outside every `tenant_scope`."""

    code = "tenant_required"


class InvalidIdentifierError(TenantError):
    """An identifier does not follow the grammar `[A-Za-z0-9_-]{1,64}`."""

    code = "invalid_identifier"


class AgentError(SDKError):
    """Base of what agents raise."""

    code = "agent_error"
    component = "agents"


class AgentConfigurationError(AgentError):
    """An agent was built from settings that cannot work."""

    code = "agent_configuration_error"


class AgentExecutionError(AgentError):
    """A task failed while an agent ran it."""

    code = "agent_execution_error"


class AgentCommunicationError(AgentError):
    """A message between agents was not delivered or was not understood."""

    code = "agent_communication_error"
    default_retryable = True


class RAGError(SDKError):
    """Base of what retrieval-augmented generation raises."""

    code = "rag_error"
    component = "rag"


class DocumentProcessingError(RAGError):
    """A document could not be chunked, embedded or stored; nothing of it was kept."""

    code = "document_processing_error"


class DocumentNotFoundError(RAGError):
    """The tenant has no document of that id."""

    code = "document_not_found"


class RetrievalError(RAGError):
    """A query could not be answered from the stored documents."""

    code = "retrieval_error"


class GatewayError(SDKError):
    """Base of what the LLM gateway raises."""

    code = "gateway_error"
    component = "gateway"


class ProviderError(GatewayError):
    """A model provider failed, refused, or did not answer in time.

    Args:
        status: HTTP status of its answer; None when there was none.
        retry_after: Seconds that the provider asks to wait before the next try.
    """

    code = "provider_error"

    def __init__(
        self,
        message: str,
        *,
        remedy: str | None = None,
        tenant_id: str | None = None,
        trace_id: str | None = None,
        retryable: bool | None = None,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(
            message, remedy=remedy, tenant_id=tenant_id, trace_id=trace_id, retryable=retryable
        )
        self.status = status
        self.retry_after = retry_after


class ContentPolicyError(ProviderError):
    """The provider's own content policy refused the request or its answer."""

    code = "content_policy"


class RateLimitError(GatewayError):
    """A limit of ours or of the provider was reached; `retry_after` says for how many seconds."""

    code = "rate_limited"
    default_retryable = True

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        remedy: str | None = None,
        tenant_id: str | None = None,
    ) -> None:
        super().__init__(message, remedy=remedy, tenant_id=tenant_id)
        self.retry_after = retry_after


class ValidationError(GatewayError):
    """A request to a model, or its output, broke a rule."""

    code = "validation_error"


class ContextLengthError(ValidationError):
    """The conversation is longer than the model's context window."""

    code = "context_length"


class GuardrailError(ValidationError):
    """A guardrail refused what was asked or answered; `rule` names which, never the text."""

    code = "guardrail_refused"

    def __init__(
        self,
        message: str,
        *,
        rule: str = "",
        remedy: str | None = None,
        tenant_id: str | None = None,
    ) -> None:
        super().__init__(message, remedy=remedy, tenant_id=tenant_id)
        self.rule = rule


class OutputFormatError(ValidationError):
    """A model's answer did not take the form that was asked for, also when told what was wrong."""

    code = "output_format"
    default_retryable = True


class BudgetExceededError(GatewayError):
    """A tenant's budget does not cover the call.

    Args:
        budget: Its name.
        resets_at: When its next period begins.
    """

    code = "budget_exceeded"

    def __init__(
        self,
        message: str,
        *,
        budget: str = "",
        resets_at: datetime | None = None,
        remedy: str | None = None,
        tenant_id: str | None = None,
    ) -> None:
        super().__init__(message, remedy=remedy, tenant_id=tenant_id)
        self.budget = budget
        self.resets_at = resets_at


class CircuitOpenError(GatewayError):
    """A dependency failed so often that it is left alone for a while."""

    code = "circuit_open"
    default_retryable = True


class DatabaseError(SDKError):
    """Base of what the database adapter raises."""

    code = "database_error"
    component = "database"


class ConnectionError(DatabaseError):  # noqa: A001 - the name that the SDK's users were promised
    """The database cannot be reached, or the connection broke before the outcome was known."""

    code = "database_connection_error"
    default_retryable = True


class QueryError(DatabaseError):
    """The database refused a statement, or it ran out of time."""

    code = "database_query_error"


class MigrationError(DatabaseError):
    """A migration failed, was edited after it had run, or left a table without isolation."""

    code = "migration_error"


class IngestionError(SDKError):
    """Base of what ingestion raises for a file; nothing of the file was stored."""

    code = "ingestion_error"
    component = "ingest"


class EmptyFileError(IngestionError):
    """The file has no content, or none that can be read as text."""

    code = "empty_file"


class FileTooLargeError(IngestionError):
    """The file, or what it unpacks to, is above the limit."""

    code = "file_too_large"


class UnsupportedFormatError(IngestionError):
    """Nothing installed reads files of this kind."""

    code = "unsupported_format"


class UnreadableFileError(IngestionError):
    """The content is damaged, encrypted, or not what its name says."""

    code = "unreadable_file"


class LoaderCrashedError(IngestionError):
    """The isolated process that read the file died or ran out of time or memory."""

    code = "loader_crashed"


class ResilienceError(SDKError):
    """Base of what the guards around a call raise instead of letting it through."""

    code = "resilience_error"
    component = "resilience"
    default_retryable = True


class DeadlineExceededError(ResilienceError):
    """The time that the caller allowed is over."""

    code = "deadline_exceeded"


class OverloadError(ResilienceError):
    """There is more work than can be done in time; this piece was refused at once."""

    code = "overloaded"


class CacheError(SDKError):
    """A cache was misused, or its server failed in a way that cannot be treated as a miss."""

    code = "cache_error"
    component = "cache"


class MessagingError(SDKError):
    """A message could not be published, delivered or understood."""

    code = "messaging_error"
    component = "messaging"
    default_retryable = True


class CodecError(SDKError):
    """Bytes are not a valid encoding, or a value has none."""

    code = "codec_error"
    component = "codec"


class SecretError(SDKError):
    """A secret cannot be stored as it was given; base of what the secret store raises."""

    code = "secret_error"
    component = "security"


class SecretNotFoundError(SecretError):
    """The tenant has no secret of that name."""

    code = "secret_not_found"


class SecretUnreadableError(SecretError):
    """A stored secret does not decrypt: its master key is gone, or the row was tampered with."""

    code = "secret_unreadable"


class KeyManagementError(SecretError):
    """The key management failed or did not answer in time."""

    code = "key_management_error"
    default_retryable = True


class PromptError(SDKError):
    """Base of what prompts, their variants and context windows raise."""

    code = "prompt_error"
    component = "prompts"


class PromptNotFoundError(PromptError):
    """There is no template of that name, or not in that version."""

    code = "prompt_not_found"


class PromptTemplateError(PromptError):
    """A template is malformed, uses what templates may not, or contradicts its stored version."""

    code = "prompt_template_error"


class PromptVariableError(PromptError):
    """Variables are missing, unknown or of a kind that no template can show.

    Args:
        missing: Required variables that were not given.
        unknown: Given variables that the template does not have.
    """

    code = "prompt_variable_error"

    def __init__(
        self,
        message: str,
        *,
        missing: tuple[str, ...] = (),
        unknown: tuple[str, ...] = (),
        remedy: str | None = None,
        tenant_id: str | None = None,
    ) -> None:
        super().__init__(message, remedy=remedy, tenant_id=tenant_id)
        self.missing = missing
        self.unknown = unknown


class PromptLimitError(PromptError):
    """Rendering would take more time or space than a prompt is worth."""

    code = "prompt_limit_exceeded"


class ContextWindowError(PromptError):
    """What must be in the context window does not fit into its budget."""

    code = "context_window_exceeded"


class MLError(SDKError):
    """Base of what the machine-learning framework raises."""

    code = "ml_error"
    component = "ml"


class AccessError(SDKError):
    """Base of what callers from outside get when they may not do what they ask."""

    code = "access_error"
    component = "api"


class AuthenticationError(AccessError):
    """The caller's key is missing, malformed, unknown or revoked."""

    code = "authentication_failed"


class PermissionDeniedError(AccessError):
    """The caller is known and may not do this."""

    code = "permission_denied"
