"""The governance that a platform's settings ask for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from motadata.core.platform import Platform
from motadata.core.protocols import FindingAction, Guardrail
from motadata.core.settings import Settings
from motadata.gateway._deduplication import Deduplication
from motadata.gateway._embedding_batches import EmbeddingBatches
from motadata.gateway._keys import KeySource
from motadata.gateway._limits import Limits, ProviderLimits
from motadata.gateway._rates import Rate, Sharing
from motadata.gateway._steps import Governance
from motadata.gateway.budgets import Budget, Budgets
from motadata.gateway.routing import Route, Routing


if TYPE_CHECKING:
    from motadata.gateway.guardrails import Guardrails


class GuardrailSettings(BaseModel):
    """What a platform guards without a line of code; for more, build `Guardrails` by hand.

    Attributes:
        personal_data: `flag`, `mask`, `tokenise` or `refuse` what identifies people, in questions
            and answers; None lets it pass.
        secrets: `flag`, `mask` or `refuse` keys and passwords; None lets them pass.
        packs: Compliance packs that answers are held to: `itil`, `security`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    personal_data: FindingAction | None = None
    secrets: FindingAction | None = None
    packs: tuple[str, ...] = ()

    def build(self) -> Guardrails:
        """Return the guardrails.

        Raises:
            ConfigurationError: An action or a pack does not exist.
        """
        from motadata.gateway.guardrails import (
            CompliancePack,
            Guardrails,
            PersonalData,
            Secrets,
        )

        both: list[Guardrail] = []
        if self.personal_data is not None:
            both.append(PersonalData(self.personal_data))
        if self.secrets is not None:
            both.append(Secrets(self.secrets))
        return Guardrails(both, [*both, *(CompliancePack(name) for name in self.packs)])


class GovernanceSettings(Settings, prefix="MOTADATA_GATEWAY_"):
    """How calls are recorded, limited, paid and routed; each as JSON.

    Attributes:
        usage_directory: Folder on a local disk where rows of the usage log wait for the database;
            None means that calls are not written down. Instances may share it.
        limits: What each tenant may use, `{"requests": 600, "tokens": 200000}`.
        model_limits: What each tenant may use of a model, by its name.
        key_limits: What may go to a provider with the platform's key, by provider or model.
        budgets: Budgets that every tenant has, `[{"name": "monthly", "usd": "500"}]`.
        guardrails: What is guarded, `{"personal_data": "mask", "secrets": "refuse"}`.
        routes: What names stand for, `{"chat": {"targets": ["openai/gpt-4o", "groq/llama"]}}`.
        redis_url: The server by which instances share limits and breakers.
        expected_instances: How many there will be: until one has reached that server, it grants
            this part of each limit.
    """

    usage_directory: Path | None = None
    limits: Rate | None = None
    model_limits: Mapping[str, Rate] = Field(default_factory=dict)
    key_limits: Mapping[str, Rate] = Field(default_factory=dict)
    budgets: tuple[Budget, ...] = ()
    guardrails: GuardrailSettings | None = None
    routes: Mapping[str, Route] = Field(default_factory=dict)
    redis_url: SecretStr | None = None
    expected_instances: int = Field(default=1, ge=1)


def governance_of(platform: Platform, keys: KeySource | None) -> Governance:
    """Return the parts that the platform's environment asks for; calls are joined in any case.

    Raises:
        ConfigurationError: A variable does not fit.
    """
    settings = GovernanceSettings.from_environment(platform.environment)
    redis_url = settings.redis_url.get_secret_value() if settings.redis_url else None
    sharing = Sharing(redis_url=redis_url, expected_instances=settings.expected_instances)
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
    guardrails = settings.guardrails.build() if settings.guardrails else None
    return Governance(
        usage=usage,
        guardrail_inputs=guardrails.inputs if guardrails else None,
        deduplication=Deduplication(),
        guardrail_outputs=guardrails.outputs if guardrails else None,
        prices=prices,
        budgets=budgets,
        limits=limits,
        batches=EmbeddingBatches(),
        routing=Routing(settings.routes, redis_url=redis_url),
        provider_limits=provider_limits,
    )
