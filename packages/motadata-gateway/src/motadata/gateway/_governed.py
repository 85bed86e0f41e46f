"""The governance that a platform's settings ask for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, SecretStr

from motadata.core.platform import Platform
from motadata.core.settings import Settings
from motadata.gateway._deduplication import Deduplication
from motadata.gateway._embedding_batches import EmbeddingBatches
from motadata.gateway._keys import KeySource
from motadata.gateway._limits import Limits, ProviderLimits
from motadata.gateway._rates import Rate, Sharing
from motadata.gateway._steps import Governance
from motadata.gateway.budgets import Budget, Budgets
from motadata.gateway.routing import Route, Routing


class GovernanceSettings(Settings, prefix="MOTADATA_GATEWAY_"):
    """How calls are recorded, limited, paid and routed; each as JSON.

    Attributes:
        usage_directory: Folder on a local disk where rows of the usage log wait for the database;
            None means that calls are not written down. Instances may share it.
        limits: What each tenant may use, `{"requests": 600, "tokens": 200000}`.
        model_limits: What each tenant may use of a model, by its name.
        key_limits: What may go to a provider with the platform's key, by provider or model.
        budgets: Budgets that every tenant has, `[{"name": "monthly", "usd": "500"}]`.
        routes: What names stand for, `{"chat": {"targets": ["openai/gpt-4o", "groq/llama"]}}`.
        redis_url: The server by which instances share limits and breakers.
    """

    usage_directory: Path | None = None
    limits: Rate | None = None
    model_limits: Mapping[str, Rate] = Field(default_factory=dict)
    key_limits: Mapping[str, Rate] = Field(default_factory=dict)
    budgets: tuple[Budget, ...] = ()
    routes: Mapping[str, Route] = Field(default_factory=dict)
    redis_url: SecretStr | None = None


def governance_of(platform: Platform, keys: KeySource | None) -> Governance:
    """Return the parts that the platform's environment asks for; calls are joined in any case.

    Raises:
        ConfigurationError: A variable does not fit.
    """
    settings = GovernanceSettings.from_environment(platform.environment)
    redis_url = settings.redis_url.get_secret_value() if settings.redis_url else None
    sharing = Sharing(redis_url=redis_url)
    limits = provider_limits = usage = prices = budgets = None
    if settings.limits is not None or settings.model_limits:
        limits = Limits(settings.limits, models=settings.model_limits, sharing=sharing)
    if settings.key_limits:
        provider_limits = ProviderLimits(settings.key_limits, own_keys=keys, sharing=sharing)
    if settings.usage_directory is not None or settings.budgets:
        from motadata.gateway.usage import PriceOverrides, Pricing

        prices = Pricing(overrides=PriceOverrides(platform.database))
    if settings.usage_directory is not None:
        from motadata.gateway.usage import UsageLog

        usage = UsageLog(platform.database, settings.usage_directory)
    if settings.budgets:
        budgets = Budgets(platform.database, settings.budgets)
    return Governance(
        usage=usage,
        deduplication=Deduplication(),
        prices=prices,
        budgets=budgets,
        limits=limits,
        batches=EmbeddingBatches(),
        routing=Routing(settings.routes, redis_url=redis_url),
        provider_limits=provider_limits,
    )
