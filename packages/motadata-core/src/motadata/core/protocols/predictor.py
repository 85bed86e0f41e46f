"""The contract of a trained model that is served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from motadata.core.models import Health


class Predictor(Protocol):
    """Predicts with a registered model, for a tenant.

    Raises:
        TenantRequiredError: No tenant is given and none is in scope.
        InvalidIdentifierError: The tenant's name is malformed.
        MLError: The model is unknown to the tenant, or the features do not fit it: one is missing,
            or is of another kind.
        DeadlineExceededError: The deadline of the caller ended it.
    """

    async def predict(
        self, model: str, features: Mapping[str, object], *, tenant_id: str | None = None
    ) -> object:
        """Return the prediction for one set of features."""
        ...

    async def predict_batch(
        self,
        model: str,
        features: Sequence[Mapping[str, object]],
        *,
        tenant_id: str | None = None,
    ) -> Sequence[object]:
        """Return one prediction a set of features, in order; none of it when one does not fit."""
        ...

    async def health(self) -> Health:
        """Say which models can be served."""
        ...
