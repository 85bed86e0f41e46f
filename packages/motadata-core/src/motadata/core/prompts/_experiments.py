"""A/B variants: who gets which, and how they fare."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast
from uuid import UUID

from motadata.core.errors import ConfigurationError, PromptError
from motadata.core.identifiers import new_id
from motadata.core.models import Record
from motadata.core.protocols import Database
from motadata.core.tenancy import Identifier, resolve_tenant


_MOST_VARIANTS: Final = 100

_RECORD: Final = (
    "insert into motadata.prompt_outcome (tenant_id, experiment, outcome_id, variant, score)"
    " values ($1, $2, $3, $4, $5) on conflict (tenant_id, experiment, outcome_id) do nothing"
)
_FORGET: Final = "delete from motadata.prompt_outcome where tenant_id = $1 and experiment = $2"
_SUMMARY: Final = (
    "select variant, count(*) as outcomes, avg(score) as mean,"
    " coalesce(stddev_samp(score), 0) as deviation from motadata.prompt_outcome"
    " where tenant_id = $1 and experiment = $2 group by variant order by variant"
)


@dataclass(frozen=True, slots=True)
class Variant(Record):
    """One way to prompt.

    Attributes:
        name: An identifier.
        prompt: Name of the template to render.
        version: None means the active one.
        weight: Its share among the variants, relative to theirs; 0 gets nobody.
    """

    name: str
    prompt: str
    version: int | None = None
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Experiment(Record):
    """Variants under comparison.

    A user of a tenant gets the same variant always and everywhere, without anything being stored.
    When weights change or a variant is added, only those move whose new variant gained; nobody
    else does.

    Attributes:
        name: An identifier; another one deals anew.
        variants: 1 to 100.

    Raises:
        InvalidIdentifierError: A name breaks the grammar.
        ConfigurationError: There is no variant to give, two have one name, or a weight is unfit.
    """

    name: str
    variants: tuple[Variant, ...]

    def __post_init__(self) -> None:
        """Check names and weights."""
        Identifier(self.name)
        names = [Identifier(variant.name) for variant in self.variants]
        weights = [variant.weight for variant in self.variants]
        fit = all(math.isfinite(weight) and weight >= 0 for weight in weights)
        if len(set(names)) < len(names) or not fit or not any(weights):
            message = f"The variants of the experiment {self.name!r} cannot be dealt out."
            raise ConfigurationError(
                message, remedy="Give each its own name and a weight of at least 0, one above it."
            )
        if len(names) > _MOST_VARIANTS:
            message = f"The experiment {self.name!r} has {len(names)} variants."
            raise ConfigurationError(message, remedy=f"Pass at most {_MOST_VARIANTS}.")

    def assign(self, user_id: str = "", *, tenant_id: str | None = None) -> Variant:
        """Return the variant of a user, or of a whole tenant when no user is named.

        Raises:
            TenantRequiredError: No tenant is given and none is in scope.
        """
        tenant = resolve_tenant(tenant_id)

        def score(variant: Variant) -> float:
            # Weighted rendezvous hashing: each variant draws a number by itself, the highest wins.
            return math.log(_draw(self.name, variant.name, tenant, user_id)) / variant.weight

        return max((variant for variant in self.variants if variant.weight > 0), key=score)


@dataclass(frozen=True, slots=True)
class VariantSummary(Record):
    """How a variant has fared.

    Attributes:
        outcomes: How many were recorded.
        mean: Their mean score.
        deviation: Their standard deviation; 0 for a single one.
    """

    variant: str
    outcomes: int
    mean: float
    deviation: float


class PromptOutcomes:
    """Records and sums up how variants fared, tenant by tenant.

    Args:
        database: It must have been migrated.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(
        self,
        experiment: str,
        variant: str,
        score: float,
        *,
        outcome_id: UUID | None = None,
        tenant_id: str | None = None,
    ) -> bool:
        """Record one outcome, such as 1.0 for a solved incident and 0.0 for a reopened one.

        Args:
            experiment: Which experiment.
            variant: Which of its variants.
            score: Any finite number; the higher, the better.
            outcome_id: What makes a repeated call the same outcome; None means a fresh one.
            tenant_id: None means the tenant of the scope.

        Returns:
            Whether it is new; False when that outcome was recorded before.

        Raises:
            PromptError: The score is not finite.
            DatabaseError: It could not be stored.
        """
        tenant = resolve_tenant(tenant_id)
        if not math.isfinite(score):
            message = f"The score {score!r} is not finite."
            raise PromptError(message, remedy="Pass a number.", tenant_id=tenant)
        key = (tenant, Identifier(experiment), outcome_id or new_id())
        async with self._database.transaction(tenant) as transaction:
            added = await transaction.execute(_RECORD, *key, Identifier(variant), float(score))
        return added > 0

    async def summarise(
        self, experiment: str, *, tenant_id: str | None = None
    ) -> Sequence[VariantSummary]:
        """Return how each variant has fared with the tenant, by name; only those with outcomes."""
        tenant = resolve_tenant(tenant_id)
        rows = await self._database.execute_query(
            _SUMMARY, tenant, Identifier(experiment), tenant_id=tenant
        )
        return tuple(
            VariantSummary(
                variant=str(row["variant"]),
                outcomes=cast("int", row["outcomes"]),
                mean=cast("float", row["mean"]),
                deviation=cast("float", row["deviation"]),
            )
            for row in rows
        )

    async def forget(self, experiment: str, *, tenant_id: str | None = None) -> int:
        """Delete the tenant's outcomes of an experiment; return how many there were."""
        tenant = resolve_tenant(tenant_id)
        async with self._database.transaction(tenant) as transaction:
            return await transaction.execute(_FORGET, tenant, Identifier(experiment))


def _draw(*parts: str) -> float:
    """Return a number above 0 and below 1 that depends on nothing but the parts."""
    encoded = [part.encode(errors="surrogatepass") for part in parts]
    led = b"".join(len(part).to_bytes(4, "big") + part for part in encoded)
    number = int.from_bytes(hashlib.sha256(led).digest()[:8], "big")
    return (number / 2 + 1) / (2**63 + 2)
