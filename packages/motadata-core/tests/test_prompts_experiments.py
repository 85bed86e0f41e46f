from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motadata.core.errors import (
    ConfigurationError,
    InvalidIdentifierError,
    TenantRequiredError,
)
from motadata.core.prompts import Experiment, Variant
from motadata.core.tenancy import tenant_scope


NAMES = ["a", "b", "c", "d"]
weights = st.lists(st.integers(0, 9), min_size=2, max_size=4).filter(any)


def experiment(*given: float, name: str = "tone") -> Experiment:
    pairs = zip(NAMES, given, strict=False)
    return Experiment(name, tuple(Variant(key, "triage", weight=value) for key, value in pairs))


@given(given=weights, user=st.text(max_size=30))
def test_user_gets_the_same_variant_always(given: list[float], user: str) -> None:
    first = experiment(*given).assign(user, tenant_id="acme")

    assert experiment(*given).assign(user, tenant_id="acme") == first
    assert first.weight > 0


def test_assignment_is_the_same_in_every_process_and_release() -> None:
    dealt = [experiment(1, 1).assign(f"u{n}", tenant_id="acme").name for n in range(12)]

    assert "".join(dealt) == "abbbaaabbabb"


@settings(max_examples=25)
@given(given=weights)
def test_shares_follow_the_weights(given: list[float]) -> None:
    dealt = Counter(experiment(*given).assign(f"u{n}", tenant_id="t").name for n in range(2000))

    for name, weight in zip(NAMES, given, strict=False):
        # Four standard deviations and a half of a binomial share at its widest.
        assert dealt[name] / 2000 == pytest.approx(weight / sum(given), abs=0.05)


def test_only_those_move_whose_new_variant_gained() -> None:
    users = [f"u{n}" for n in range(2000)]
    before, after = experiment(1, 1), experiment(1, 3)
    moved = [
        (before.assign(user, tenant_id="t").name, after.assign(user, tenant_id="t").name)
        for user in users
    ]

    assert ("b", "a") not in moved
    assert 0.2 < sum(old != new for old, new in moved) / 2000 < 0.3


def test_tenants_and_experiments_are_dealt_independently() -> None:
    users = [f"u{n}" for n in range(500)]
    deals = [
        [experiment(1, 1, name=name).assign(user, tenant_id=tenant).name for user in users]
        for tenant, name in (("acme", "tone"), ("globex", "tone"), ("acme", "length"))
    ]

    for one, other in pairwise(deals):
        assert 200 < sum(a == b for a, b in zip(one, other, strict=True)) < 300


def test_parts_of_a_name_cannot_be_shifted_between_tenant_and_user() -> None:
    shifted = [
        experiment(*[1] * 4).assign("1" + "0" * n, tenant_id="a" * (40 - n)).name for n in range(40)
    ]

    assert len(set(shifted)) > 1


def test_whole_tenant_gets_one_variant_when_no_user_is_named() -> None:
    with tenant_scope("acme"):
        assert experiment(1, 1).assign() == experiment(1, 1).assign(tenant_id="acme")
    with pytest.raises(TenantRequiredError):
        experiment(1, 1).assign("u")


@pytest.mark.parametrize("given", [(), (0,), (-1, 2), (float("nan"),), (float("inf"), 1)])
def test_weights_that_deal_nothing_out_are_refused(given: tuple[float, ...]) -> None:
    with pytest.raises(ConfigurationError, match="'tone'"):
        experiment(*given)


def test_bad_and_double_names_are_refused() -> None:
    with pytest.raises(InvalidIdentifierError):
        experiment(1, name="a:b")
    with pytest.raises(InvalidIdentifierError):
        Experiment("tone", (Variant("a b", "triage"),))
    with pytest.raises(ConfigurationError):
        Experiment("tone", (Variant("a", "triage"), Variant("a", "other")))
    with pytest.raises(ConfigurationError, match="101 variants"):
        Experiment("tone", tuple(Variant(f"v{n}", "triage") for n in range(101)))
