"""Secrets of tenants, encrypted at rest; extra `security`.

    secrets = create_secret_store(database)          # reads MOTADATA_SECURITY_MASTER_KEYS

    await secrets.put("openai", SecretStr("sk-…"), tenant_id="acme")
    key = await secrets.get("openai", tenant_id="acme")
    await secrets.rotate(tenant_id="acme")           # after a new master key was added

Each value has a data key of its own; a `KeyManagement` wraps it with a master key that never
touches the database. Tenant, name and revision are bound into both, so that a row decrypts nowhere
but in its own place. What hides secrets and personal data in log lines is in
`motadata.core.observability`.
"""

from motadata.core.security._key_management import (
    KeyManagement,
    LocalKeyManagement,
    SecuritySettings,
    WrappedKey,
)
from motadata.core.security._secret_store import (
    RotationResult,
    SecretInfo,
    SecretStore,
    create_secret_store,
)


__all__ = [
    "KeyManagement",
    "LocalKeyManagement",
    "RotationResult",
    "SecretInfo",
    "SecretStore",
    "SecuritySettings",
    "WrappedKey",
    "create_secret_store",
]
