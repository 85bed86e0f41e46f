"""The gateway as a component of a platform, configured by `MOTADATA_GATEWAY_…` variables."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

from pydantic import Field, SecretStr

from motadata.core.platform import ComponentSpec, Platform
from motadata.core.settings import Settings
from motadata.gateway._factory import create_gateway
from motadata.gateway._gateway import LLMGateway
from motadata.gateway._governed import governance_of
from motadata.gateway._offline import EMBEDDING_MODEL, EXTRACTIVE_MODEL
from motadata.gateway._tenant_keys import TenantKeys


class GatewaySettings(Settings, prefix="MOTADATA_GATEWAY_"):
    """Which models the gateway calls, and with which keys; see also `GovernanceSettings`.

    Attributes:
        default_model: What answers when a call names no model, as `provider/model`.
        embedding_model: What embeds when a call names no model.
        providers: Providers without a key here, such as `["bedrock"]`; litellm finds their
            credentials in its usual variables.
        api_keys: Keys by provider, `{"openai": "…"}`.
        base_urls: Addresses by provider, `{"openai": "http://127.0.0.1:8000/v1"}`.
        timeout: Seconds for a call that names none.
        embedding_threads: Threads of the offline embedding model.
    """

    default_model: str = EXTRACTIVE_MODEL
    embedding_model: str = EMBEDDING_MODEL
    providers: tuple[str, ...] = ()
    api_keys: Mapping[str, SecretStr] = Field(default_factory=dict)
    base_urls: Mapping[str, str] = Field(default_factory=dict)
    timeout: float = Field(default=60.0, gt=0, le=86_400)
    embedding_threads: int = Field(default=1, ge=1, le=16)


@asynccontextmanager
async def open_gateway(platform: Platform) -> AsyncIterator[LLMGateway]:
    """Open the gateway from the platform's environment, with its cache when it has one.

    With `MOTADATA_SECURITY_MASTER_KEYS` set, tenants' own keys are read from its database; with
    `MOTADATA_GATEWAY_USAGE_DIRECTORY`, every call is written down there, at the tenant's prices.

    Raises:
        ConfigurationError: A variable does not fit, or names a provider that is not there.
    """
    settings = GatewaySettings.from_environment(platform.environment)
    providers = sorted({*settings.providers, *settings.api_keys, *settings.base_urls})
    keys = _tenant_keys(platform)
    gateway = create_gateway(
        providers,
        settings.default_model,
        settings.api_keys,
        default_embedding_model=settings.embedding_model,
        cache=platform.cache if platform.has("cache") else None,
        base_urls=settings.base_urls,
        tenant_keys=keys,
        timeout=settings.timeout,
        embedding_threads=settings.embedding_threads,
        governance=governance_of(platform, keys),
    )
    async with gateway:
        yield gateway


def _tenant_keys(platform: Platform) -> TenantKeys | None:
    """Return the keys that tenants bring along, where there is a master key to keep them with."""
    from motadata.core.security import SecuritySettings, create_secret_store

    environment = platform.environment
    if not SecuritySettings.from_environment(environment).master_keys:
        return None
    return TenantKeys(create_secret_store(platform.database, environment=environment))


COMPONENT: Final = ComponentSpec(
    name="gateway",
    open=open_gateway,
    uses=("cache", "database"),
    migrations="motadata.gateway.migrations",
)
