"""The contract of a predictor as tests: subclass and give two fixtures.

    class TestMine(PredictorConformance):
        @pytest.fixture
        def predictor(self, gate: Gate) -> Predictor:
            return Mine(gate)

        @pytest.fixture
        def register(self, predictor: Mine) -> RegisterModel:
            async def register(model: str, intercept: float, tenant_id: str) -> None:
                ...  # a model that takes the number `value` and predicts `value + intercept`

            return register

Where the predictor runs its models in the tests, it awaits `gate.passage()` first. The tests use
tenants of their own, of whom nothing is known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import ClassVar, Final
from uuid import uuid4

import pytest

from motadata.core.errors import InvalidIdentifierError, MLError, TenantRequiredError
from motadata.core.protocols import Predictor
from motadata.core.tenancy import tenant_scope
from motadata.core.testing.gate import Gate, cancel_at, outlast_deadline_at


RegisterModel = Callable[[str, float, str], Awaitable[None]]
"""Makes a model known by name, intercept and tenant: it predicts `value + intercept`."""

_UNFIT: Final[tuple[Mapping[str, object], ...]] = (
    {},
    {"other": 1.0},
    {"value": "high"},
    {"value": None},
)


class PredictorConformance:
    """What every implementation of `motadata.core.protocols.Predictor` must do.

    Attributes:
        patience: Seconds after which what should have ended is taken to hang.
    """

    patience: ClassVar[float] = 30.0

    @pytest.fixture
    def predictor(self) -> Predictor:
        """Supply the implementation, entered."""
        message = "A subclass supplies the fixture `predictor`."
        raise NotImplementedError(message)

    @pytest.fixture
    def register(self) -> RegisterModel:
        """Supply how a model is made known."""
        message = "A subclass supplies the fixture `register`."
        raise NotImplementedError(message)

    @pytest.fixture
    def gate(self) -> Iterator[Gate]:
        """Give the gate at which models wait when it is closed."""
        gate = Gate()
        yield gate
        gate.open()

    @pytest.fixture
    def tenant(self) -> str:
        """Return a tenant of whom nothing is known."""
        return f"kit-{uuid4().hex}"

    async def test_prediction_is_that_of_the_model(
        self, predictor: Predictor, register: RegisterModel, tenant: str
    ) -> None:
        await register("hours", 10.0, tenant)

        predicted = await predictor.predict("hours", {"value": 2.5}, tenant_id=tenant)

        assert _numbers(predicted) == pytest.approx([12.5])

    async def test_batch_is_predicted_one_by_one_and_in_order(
        self, predictor: Predictor, register: RegisterModel, tenant: str
    ) -> None:
        await register("hours", 10.0, tenant)
        batch = [{"value": value} for value in (3.0, 1.0, 2.0, 1.0)]

        predicted = await predictor.predict_batch("hours", batch, tenant_id=tenant)

        assert _numbers(*predicted) == pytest.approx([13.0, 11.0, 12.0, 11.0])

    async def test_empty_batch_has_no_predictions(
        self, predictor: Predictor, register: RegisterModel, tenant: str
    ) -> None:
        await register("hours", 10.0, tenant)

        assert list(await predictor.predict_batch("hours", [], tenant_id=tenant)) == []

    async def test_features_stay_as_they_were_given(
        self, predictor: Predictor, register: RegisterModel, tenant: str
    ) -> None:
        await register("hours", 10.0, tenant)
        features = {"value": 2.5}

        await predictor.predict("hours", features, tenant_id=tenant)
        await predictor.predict_batch("hours", [features], tenant_id=tenant)

        assert features == {"value": 2.5}

    async def test_models_of_a_tenant_do_not_mix(
        self, predictor: Predictor, register: RegisterModel, tenant: str
    ) -> None:
        await register("hours", 10.0, tenant)
        await register("costs", 500.0, tenant)

        predicted = [
            await predictor.predict(model, {"value": 1.0}, tenant_id=tenant)
            for model in ("hours", "costs")
        ]

        assert _numbers(*predicted) == pytest.approx([11.0, 501.0])

    async def test_unknown_model_is_refused_by_name(
        self, predictor: Predictor, tenant: str
    ) -> None:
        with pytest.raises(MLError, match="nobodys-model"):
            await predictor.predict("nobodys-model", {"value": 1.0}, tenant_id=tenant)
        with pytest.raises(MLError, match="nobodys-model"):
            await predictor.predict_batch("nobodys-model", [{"value": 1.0}], tenant_id=tenant)

    async def test_unknown_model_is_refused_for_an_empty_batch_as_well(
        self, predictor: Predictor, tenant: str
    ) -> None:
        with pytest.raises(MLError):
            await predictor.predict_batch("nobodys-model", [], tenant_id=tenant)

    @pytest.mark.parametrize("features", _UNFIT, ids=repr)
    async def test_features_that_do_not_fit_are_refused(
        self,
        predictor: Predictor,
        register: RegisterModel,
        tenant: str,
        features: Mapping[str, object],
    ) -> None:
        await register("hours", 10.0, tenant)

        with pytest.raises(MLError):
            await predictor.predict("hours", features, tenant_id=tenant)

    @pytest.mark.parametrize("features", _UNFIT, ids=repr)
    async def test_one_bad_set_of_features_refuses_the_batch_and_no_other(
        self,
        predictor: Predictor,
        register: RegisterModel,
        tenant: str,
        features: Mapping[str, object],
    ) -> None:
        await register("hours", 10.0, tenant)

        with pytest.raises(MLError):
            await predictor.predict_batch("hours", [{"value": 1.0}, features], tenant_id=tenant)

        again = await predictor.predict_batch("hours", [{"value": 1.0}], tenant_id=tenant)
        assert _numbers(*again) == pytest.approx([11.0])

    async def test_model_of_another_tenant_is_an_unknown_one(
        self, predictor: Predictor, register: RegisterModel, tenant: str
    ) -> None:
        other = f"kit-{uuid4().hex}"
        await register("hours", 10.0, tenant)
        await predictor.predict("hours", {"value": 1.0}, tenant_id=tenant)

        with pytest.raises(MLError):
            await predictor.predict("hours", {"value": 1.0}, tenant_id=other)
        with pytest.raises(MLError):
            await predictor.predict_batch("hours", [{"value": 1.0}], tenant_id=other)

    async def test_models_of_one_name_predict_for_their_own_tenants_at_once(
        self, predictor: Predictor, register: RegisterModel
    ) -> None:
        intercepts = {f"kit-{uuid4().hex}": float(100 * number) for number in range(20)}
        for tenant, intercept in intercepts.items():
            await register("hours", intercept, tenant)

        predicted = await asyncio.gather(
            *(predictor.predict("hours", {"value": 1.0}, tenant_id=tenant) for tenant in intercepts)
        )

        assert _numbers(*predicted) == pytest.approx([1.0 + each for each in intercepts.values()])

    async def test_no_prediction_without_a_tenant(
        self, predictor: Predictor, register: RegisterModel, tenant: str
    ) -> None:
        await register("hours", 10.0, tenant)

        with pytest.raises(TenantRequiredError):
            await predictor.predict("hours", {"value": 1.0})
        with pytest.raises(TenantRequiredError):
            await predictor.predict_batch("hours", [{"value": 1.0}])

    @pytest.mark.parametrize("name", ["", "a:b", "*", "x" * 65])
    async def test_malformed_tenant_is_refused(
        self, predictor: Predictor, register: RegisterModel, tenant: str, name: str
    ) -> None:
        await register("hours", 10.0, tenant)

        with tenant_scope(tenant):
            with pytest.raises(InvalidIdentifierError):
                await predictor.predict("hours", {"value": 1.0}, tenant_id=name)
            with pytest.raises(InvalidIdentifierError):
                await predictor.predict_batch("hours", [{"value": 1.0}], tenant_id=name)

    async def test_tenant_of_the_scope_is_taken(
        self, predictor: Predictor, register: RegisterModel, tenant: str
    ) -> None:
        await register("hours", 10.0, tenant)

        with tenant_scope(tenant):
            predicted = await predictor.predict("hours", {"value": 1.0})

        assert _numbers(predicted) == pytest.approx([11.0])

    async def test_cancelled_prediction_ends_and_the_next_one_is_right(
        self, predictor: Predictor, register: RegisterModel, tenant: str, gate: Gate
    ) -> None:
        await register("hours", 10.0, tenant)

        def predict() -> Awaitable[object]:
            return predictor.predict("hours", {"value": 1.0}, tenant_id=tenant)

        await cancel_at(gate, predict, patience=self.patience)

        predicted = await predictor.predict("hours", {"value": 2.0}, tenant_id=tenant)
        assert _numbers(predicted) == pytest.approx([12.0])

    async def test_prediction_ends_with_the_deadline_of_its_caller(
        self, predictor: Predictor, register: RegisterModel, tenant: str, gate: Gate
    ) -> None:
        await register("hours", 10.0, tenant)

        def predict() -> Awaitable[object]:
            return predictor.predict("hours", {"value": 1.0}, tenant_id=tenant)

        def predict_batch() -> Awaitable[object]:
            return predictor.predict_batch("hours", [{"value": 1.0}], tenant_id=tenant)

        for operation in (predict, predict_batch):
            await outlast_deadline_at(gate, operation, patience=self.patience)

    async def test_health_says_that_it_serves(self, predictor: Predictor) -> None:
        assert (await predictor.health()).status in {"ok", "degraded"}


def _numbers(*predicted: object) -> list[float]:
    """Return predictions as numbers; models give them as they like, numpy's included."""
    return [float(str(each)) for each in predicted]
