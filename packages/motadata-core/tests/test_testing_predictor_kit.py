"""The kit for predictors passes an honest one, and finds the mistakes of others."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Protocol, cast

import pytest

from motadata.core.errors import MLError
from motadata.core.models import Health
from motadata.core.protocols import Predictor
from motadata.core.resilience import context_without_deadline, time_limit
from motadata.core.tenancy import resolve_tenant
from motadata.core.testing.gate import Gate
from motadata.core.testing.predictor import PredictorConformance, RegisterModel


Features = Mapping[str, object]


class Complaint(Protocol):
    async def __call__(self, kit: object, test: str, **fixtures: object) -> str: ...


class AddingPredictor:
    """Serves models that add a number to another; each belongs to a tenant."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._intercepts: dict[tuple[str, str], float] = {}

    async def register(self, model: str, intercept: float, tenant_id: str) -> None:
        self._intercepts[tenant_id, model] = intercept

    async def predict(
        self, model: str, features: Features, *, tenant_id: str | None = None
    ) -> object:
        return (await self.predict_batch(model, [features], tenant_id=tenant_id))[0]

    async def predict_batch(
        self, model: str, features: Sequence[Features], *, tenant_id: str | None = None
    ) -> Sequence[object]:
        tenant = self.tenant_of(tenant_id)
        intercept = self.intercept_of(tenant, model)
        values = self.values_of(features)
        async with time_limit(None, what="the model"):
            return await self.run(intercept, values)

    async def health(self) -> Health:
        return Health("ok")

    def tenant_of(self, tenant_id: str | None) -> str:
        return resolve_tenant(tenant_id)

    def intercept_of(self, tenant: str, model: str) -> float:
        if (tenant, model) not in self._intercepts:
            message = f"The tenant has no model {model!r}."
            raise MLError(message)
        return self._intercepts[tenant, model]

    def values_of(self, features: Sequence[Features]) -> Sequence[float]:
        return [self.value_of(one) for one in features]

    def value_of(self, features: Features) -> float:
        value = features.get("value")
        if not isinstance(value, float):
            message = f"value={value!r} is no number."
            raise MLError(message)
        return value

    async def run(self, intercept: float, values: Sequence[float]) -> Sequence[object]:
        await self._gate.passage()
        await asyncio.sleep(0)
        return [value + intercept for value in values]


class MixingTenants(AddingPredictor):
    async def register(self, model: str, intercept: float, tenant_id: str) -> None:
        await super().register(model, intercept, "everybody")

    def intercept_of(self, tenant: str, model: str) -> float:
        return super().intercept_of("everybody", model)


class KnowingOneModel(AddingPredictor):
    async def register(self, model: str, intercept: float, tenant_id: str) -> None:
        for known in (model, "hours", "costs"):
            await super().register(known, intercept, tenant_id)


class LoadingOneModelAtATime(AddingPredictor):
    async def run(self, intercept: float, values: Sequence[float]) -> Sequence[object]:
        self._loaded = intercept
        await super().run(intercept, values)
        return [value + self._loaded for value in values]


class WithoutNeedOfATenant(AddingPredictor):
    def tenant_of(self, tenant_id: str | None) -> str:
        return resolve_tenant(tenant_id or "default")

    def intercept_of(self, tenant: str, model: str) -> float:
        return next(iter(self._intercepts.values()))


class TakingTheScopeForAnEmptyTenant(AddingPredictor):
    def tenant_of(self, tenant_id: str | None) -> str:
        return resolve_tenant(tenant_id or None)


class GuessingForUnknownModels(AddingPredictor):
    def intercept_of(self, tenant: str, model: str) -> float:
        return self._intercepts.get((tenant, model), 0.0)


class FailingInItsOwnWay(AddingPredictor):
    def intercept_of(self, tenant: str, model: str) -> float:
        return self._intercepts[tenant, model]

    def value_of(self, features: Features) -> float:
        return cast("float", features["value"]) + 0.0


class LazyWithoutFeatures(AddingPredictor):
    async def predict_batch(
        self, model: str, features: Sequence[Features], *, tenant_id: str | None = None
    ) -> Sequence[object]:
        return features and await super().predict_batch(model, features, tenant_id=tenant_id)


class GuessingFeatures(AddingPredictor):
    def value_of(self, features: Features) -> float:
        value = features.get("value")
        return value if isinstance(value, float) else 0.0


class SkippingBadFeatures(AddingPredictor):
    def values_of(self, features: Sequence[Features]) -> Sequence[float]:
        return [value for one in features if isinstance(value := one.get("value"), float)]


class SortingItsBatches(AddingPredictor):
    async def run(self, intercept: float, values: Sequence[float]) -> Sequence[object]:
        return await super().run(intercept, sorted(values))


class PredictingEqualsOnce(AddingPredictor):
    async def run(self, intercept: float, values: Sequence[float]) -> Sequence[object]:
        return await super().run(intercept, list(dict.fromkeys(values)))


class TidyingItsFeatures(AddingPredictor):
    def value_of(self, features: Features) -> float:
        return cast("MutableMapping[str, float]", features).pop("value")


class AnsweringWhenCancelled(AddingPredictor):
    async def run(self, intercept: float, values: Sequence[float]) -> Sequence[object]:
        try:
            return await super().run(intercept, values)
        except asyncio.CancelledError:
            return [0.0]


class AnsweringTheNextWithWhatWasCancelled(AddingPredictor):
    _left: Sequence[object] | None = None

    async def run(self, intercept: float, values: Sequence[float]) -> Sequence[object]:
        if self._left is not None:
            return self._left
        try:
            return await super().run(intercept, values)
        except asyncio.CancelledError:
            self._left = [value + intercept for value in values]
            raise


class DeafToDeadlines(AddingPredictor):
    async def predict_batch(
        self, model: str, features: Sequence[Features], *, tenant_id: str | None = None
    ) -> Sequence[object]:
        predicting = super().predict_batch(model, features, tenant_id=tenant_id)
        return await asyncio.create_task(predicting, context=context_without_deadline())


class TestAddingPredictor(PredictorConformance):
    @pytest.fixture
    def predictor(self, gate: Gate) -> Predictor:
        return AddingPredictor(gate)

    @pytest.fixture
    def register(self, predictor: AddingPredictor) -> RegisterModel:
        return predictor.register


class Hasty(PredictorConformance):
    """Loses its patience early, for implementations that hang."""

    patience = 0.3


@pytest.mark.parametrize(
    ("mistaken", "test"),
    [
        (MixingTenants, "test_model_of_another_tenant_is_an_unknown_one"),
        (MixingTenants, "test_models_of_one_name_predict_for_their_own_tenants_at_once"),
        (KnowingOneModel, "test_models_of_a_tenant_do_not_mix"),
        (LoadingOneModelAtATime, "test_models_of_one_name_predict_for_their_own_tenants_at_once"),
        (WithoutNeedOfATenant, "test_no_prediction_without_a_tenant"),
        (TakingTheScopeForAnEmptyTenant, "test_malformed_tenant_is_refused"),
        (GuessingForUnknownModels, "test_unknown_model_is_refused_by_name"),
        (FailingInItsOwnWay, "test_unknown_model_is_refused_by_name"),
        (FailingInItsOwnWay, "test_features_that_do_not_fit_are_refused"),
        (LazyWithoutFeatures, "test_unknown_model_is_refused_for_an_empty_batch_as_well"),
        (GuessingFeatures, "test_features_that_do_not_fit_are_refused"),
        (SkippingBadFeatures, "test_one_bad_set_of_features_refuses_the_batch_and_no_other"),
        (SortingItsBatches, "test_batch_is_predicted_one_by_one_and_in_order"),
        (PredictingEqualsOnce, "test_batch_is_predicted_one_by_one_and_in_order"),
        (TidyingItsFeatures, "test_features_stay_as_they_were_given"),
        (AnsweringWhenCancelled, "test_cancelled_prediction_ends_and_the_next_one_is_right"),
        (
            AnsweringTheNextWithWhatWasCancelled,
            "test_cancelled_prediction_ends_and_the_next_one_is_right",
        ),
        (DeafToDeadlines, "test_prediction_ends_with_the_deadline_of_its_caller"),
    ],
)
async def test_kit_finds(mistaken: type[AddingPredictor], test: str, complaint: Complaint):
    def fixtures(kind: type[AddingPredictor]) -> dict[str, object]:
        gate = Gate()
        predictor = kind(gate)
        return {
            "predictor": predictor,
            "register": predictor.register,
            "gate": gate,
            "tenant": "acme",
            "name": "",
            "features": {"value": "high"},
        }

    assert not await complaint(PredictorConformance(), test, **fixtures(AddingPredictor))
    assert await complaint(Hasty(), test, **fixtures(mistaken))
