"""What is wrong with the tenant of an operation, or with a name."""

from __future__ import annotations

from motadata.core.errors._base import SDKError


class TenantError(SDKError):
    """Something is wrong with the tenant of an operation."""

    code = "tenant_error"


class TenantRequiredError(TenantError):
    """An operation was called without a tenant and outside every `tenant_scope`."""

    code = "tenant_required"


class InvalidIdentifierError(TenantError):
    """An identifier does not follow the grammar `[A-Za-z0-9_-]{1,64}`."""

    code = "invalid_identifier"
