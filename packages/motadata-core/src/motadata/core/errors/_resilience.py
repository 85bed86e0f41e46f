"""What the guards around a call raise instead of letting it through."""

from __future__ import annotations

from motadata.core.errors._base import SDKError


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
