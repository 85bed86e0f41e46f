"""Secrets that cannot be kept or read, and callers who may not do what they ask."""

from __future__ import annotations

from motadata.core.errors._base import SDKError


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
