from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motadata.core.errors import ConfigurationError, InvalidIdentifierError
from motadata.core.observability import counter, histogram, span
from motadata.core.observability._metrics import Instruments
from motadata.core.observability._tenant_labels import OTHER, TenantLabels
from motadata.core.tenancy import tenant_scope


pytest.importorskip("opentelemetry.sdk")

from motadata.core.testing.metrics import RecordedMetrics, recorded_metrics


TENANT = "motadata.tenant_id"

jobs = counter("test.jobs", unit="{job}", description="Jobs of these tests.")
sizes = histogram("test.sizes", unit="By", boundaries=[1, 10, 100])


@pytest.fixture
def recorded() -> Iterator[RecordedMetrics]:
    with recorded_metrics() as metrics:
        yield metrics


def by_tenant(metrics: RecordedMetrics, name: str) -> dict[object, float]:
    return {point.attributes.get(TENANT): point.value for point in metrics.points(name)}


class TestCounter:
    def test_sums_up_by_tenant_and_attributes(self, recorded: RecordedMetrics) -> None:
        with tenant_scope("acme"):
            jobs.add(2, {"kind": "a"})
            jobs.add(1, {"kind": "b"})
            jobs.add(3, {"kind": "a"})
        jobs.add(5, {"kind": "a"}, tenant_id="globex")

        points = {
            (point.attributes[TENANT], point.attributes["kind"]): point.value
            for point in recorded.points("test.jobs")
        }
        assert points == {("acme", "a"): 5, ("acme", "b"): 1, ("globex", "a"): 5}

    def test_order_of_attributes_makes_no_series(self, recorded: RecordedMetrics) -> None:
        jobs.add(1, {"x": 1, "y": 2})
        jobs.add(1, {"y": 2, "x": 1})

        assert [point.value for point in recorded.points("test.jobs")] == [2]

    def test_outside_of_every_tenant_it_names_none(self, recorded: RecordedMetrics) -> None:
        jobs.add(1, {"kind": "nobody's"})

        (point,) = recorded.points("test.jobs")
        assert point.attributes == {"kind": "nobody's"}

    def test_takes_the_tenant_that_a_span_names(self, recorded: RecordedMetrics) -> None:
        with tenant_scope("acme"), span("work", tenant_id="globex"):
            jobs.add()

        assert by_tenant(recorded, "test.jobs") == {"globex": 1}

    def test_cannot_fall(self, recorded: RecordedMetrics) -> None:
        jobs.add(-1, tenant_id="acme")
        jobs.add(float("nan"), tenant_id="acme")

        assert recorded.points("test.jobs") == []

    def test_of_no_valid_tenant_is_an_error(self) -> None:
        with pytest.raises(InvalidIdentifierError):
            jobs.add(1, tenant_id="acme.>")

    def test_loses_nothing_among_threads(self, recorded: RecordedMetrics) -> None:
        bound = jobs.bind({"kind": "threads"}, tenant_id="acme")

        def work() -> None:
            for _ in range(2_000):
                bound.add()
                jobs.add(1, {"kind": "threads"}, tenant_id="acme")

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)

        assert by_tenant(recorded, "test.jobs") == {"acme": 16_000}

    def test_kept_before_there_is_an_sdk_is_reported_to_it(self) -> None:
        instruments = Instruments()
        early = instruments.counter("test.early")
        early.add(3, tenant_id="acme")

        assert [series.value for series in early._table.all()] == [3]


class TestHistogram:
    def test_keeps_count_sum_and_the_boundaries_it_was_made_with(
        self, recorded: RecordedMetrics
    ) -> None:
        with tenant_scope("acme"):
            sizes.record(5)
            sizes.bind().record(50)

        (point,) = recorded.points("test.sizes")
        assert (point.count, point.value, point.boundaries) == (2, 55, (1, 10, 100))
        assert point.attributes == {TENANT: "acme"}

    def test_without_an_sdk_is_silent(self) -> None:
        histogram("test.silent", unit="s", boundaries=[1]).record(1, {"a": "b"}, tenant_id="acme")


class TestDeclaration:
    def test_of_one_name_is_one_metric(self) -> None:
        assert counter("test.jobs", unit="{job}") is jobs

    def test_of_one_name_and_another_unit_is_an_error(self) -> None:
        with pytest.raises(ConfigurationError, match=r"another metric 'test.jobs', in '\{job\}'"):
            counter("test.jobs", unit="s")
        with pytest.raises(ConfigurationError):
            histogram("test.jobs", unit="{job}", boundaries=[1])

    @pytest.mark.parametrize("name", ["", "1st", "a b", "é", "x" * 256])
    def test_of_a_malformed_name_is_an_error(self, name: str) -> None:
        with pytest.raises(ConfigurationError, match="malformed"):
            counter(name)


class TestBounds:
    def test_tenants_above_the_limit_share_a_label_that_no_tenant_can_have(
        self, recorded: RecordedMetrics
    ) -> None:
        instruments = Instruments()
        instruments.name_tenants(10, ["vip"])
        counted = instruments.counter("test.many")
        for number in range(1_000):
            counted.add(1, tenant_id=f"tenant-{number}")
        counted.add(1, tenant_id="vip")

        labels = {series.attributes[TENANT] for series in counted._table.all()}
        assert len(labels) <= 11
        assert {"vip", OTHER} <= labels
        assert sum(series.value for series in counted._table.all()) == 1_001
        with pytest.raises(InvalidIdentifierError):
            counted.add(1, tenant_id=OTHER)

    def test_series_above_the_limit_share_one_and_nothing_is_lost(self) -> None:
        counted = Instruments().counter("test.wide")
        for number in range(5_000):
            counted.add(1, {"model": f"m{number}"}, tenant_id="acme")

        series = counted._table.all()
        assert len(series) == 2_001
        assert sum(item.value for item in series) == 5_000
        assert len(counted._table._known) <= 4_000

    def test_long_and_secret_values_do_not_become_labels(self, recorded: RecordedMetrics) -> None:
        jobs.add(1, {"model": "m" * 1_000, "api_key": "hunter2", "note": "mail joe@example.com"})

        (point,) = recorded.points("test.jobs")
        assert len(str(point.attributes["model"])) == 120
        assert point.attributes["api_key"] == "[redacted]"
        assert point.attributes["note"] == "mail [email]"


class TestTenantLabels:
    def test_label_once_given_stays(self) -> None:
        labels = TenantLabels(4)
        first = {name: labels.label(name) for name in ("a", "b")}
        for number in range(10_000):
            labels.label(f"t{number % 500}")

        assert first == {"a": "a", "b": "b"}
        assert labels.label("a") == "a"

    def test_tenant_that_comes_late_and_does_much_gets_a_place(self) -> None:
        labels = TenantLabels(10)
        for number in range(5_000):
            labels.label(f"small-{number}")
        seen = [labels.label("heavy") for _ in range(2_000)]

        assert seen[0] == OTHER
        assert seen[-1] == "heavy"

    def test_tenants_that_do_little_do_not_take_the_places_that_are_left(self) -> None:
        labels = TenantLabels(10)
        given = {labels.label(f"small-{number}") for number in range(5_000)} - {OTHER}

        assert len(given) == 5

    def test_limit_of_none_names_nobody(self) -> None:
        assert TenantLabels(0).label("acme") == OTHER

    @settings(deadline=None)
    @given(
        st.lists(st.integers(0, 60).map("t{}".format), max_size=600),
        st.integers(0, 8),
        st.booleans(),
    )
    def test_never_names_more_than_the_limit_nor_one_by_another_s_name(
        self, tenants: list[str], limit: int, pins: object
    ) -> None:
        labels = TenantLabels(limit, ["t0"] if pins else [])
        given = [(tenant, labels.label(tenant)) for tenant in tenants]

        named = {label for _, label in given if label != OTHER}
        assert len(named | ({"t0"} if pins else set())) <= max(limit, 1 if pins else 0)
        assert all(label in {tenant, OTHER} for tenant, label in given)
        since: set[str] = set()
        for tenant, label in given:
            assert tenant not in since or label == tenant
            if label == tenant:
                since.add(tenant)


async def test_metrics_of_one_tenant_never_carry_the_other_s_id(recorded: RecordedMetrics) -> None:
    async def work(tenant: str, amount: int) -> None:
        with tenant_scope(tenant):
            for _ in range(200):
                jobs.add(amount, {"kind": tenant})
                sizes.record(amount, {"kind": tenant})
                await asyncio.sleep(0)
                await asyncio.to_thread(jobs.add, amount, {"kind": tenant}) if amount == 1 else None

    await asyncio.gather(work("acme", 1), work("globex", 1_000))

    for name in ("test.jobs", "test.sizes"):
        points = recorded.points(name)
        assert {point.attributes[TENANT] for point in points} == {"acme", "globex"}
        assert all(point.attributes[TENANT] == point.attributes["kind"] for point in points)
    assert by_tenant(recorded, "test.jobs") == {"acme": 400, "globex": 200_000}
