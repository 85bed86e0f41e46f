"""What the gateway to the models raises."""

from __future__ import annotations

from typing import TYPE_CHECKING

from motadata.core.errors._base import SDKError


if TYPE_CHECKING:
    from datetime import datetime


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
