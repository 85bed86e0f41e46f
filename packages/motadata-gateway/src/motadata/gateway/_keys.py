"""Whose key a call carries: the tenant's own where it brought one, else the provider's."""

from __future__ import annotations

import re
from typing import Final, Protocol

from pydantic import SecretStr

from motadata.core.errors import ConfigurationError
from motadata.core.tenancy import TenantId, current_tenant


_SENDABLE: Final = re.compile(r"[!-~]{1,8192}", re.ASCII)


class KeySource(Protocol):
    """Knows the keys that tenants brought along.

    It is asked by every call that goes to a provider, so it should answer from memory.
    """

    async def api_key(self, provider: str, tenant: TenantId) -> SecretStr | None:
        """Return the tenant's key for a provider; None means that the platform's own is used."""
        ...


async def key_for(
    provider: str, own: SecretStr | None, source: KeySource | None
) -> SecretStr | None:
    """Return the key of the tenant in scope, else the provider's own, else None.

    Raises:
        ConfigurationError: The tenant's key holds what no header can.
    """
    tenant = current_tenant() if source is not None else None
    if source is None or tenant is None:
        return own
    found = await source.api_key(provider, tenant)
    return own if found is None else checked_key(provider, found)


def checked_key(provider: str, key: SecretStr) -> SecretStr:
    """Return the key, if a header can carry it.

    Raises:
        ConfigurationError: It is empty, or holds blanks, line breaks or other than ASCII.
    """
    if _SENDABLE.fullmatch(key.get_secret_value()) is None:
        message = f"The key of the provider {provider!r} is empty or holds what no header can."
        raise ConfigurationError(message, remedy="Give it as it was issued, without blanks.")
    return key
