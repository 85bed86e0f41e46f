"""Shares of what was paid: they add up, and come back from where they are kept."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motadata.gateway._usages import saving, shares_of, with_price, without_price
from motadata.gateway._vectors import pack


COSTS = st.decimals(0, 10_000, allow_nan=False, allow_infinity=False, places=9)
TEXTS = st.lists(st.text(max_size=30), unique=True, min_size=1, max_size=8)


@given(COSTS, TEXTS)
def test_shares_of_texts_add_up_to_what_was_paid(cost: Decimal, texts: list[str]) -> None:
    shares = shares_of(cost, texts)

    assert list(shares) == texts
    assert sum(shares.values()) == cost
    assert min(shares.values()) >= 0


def test_what_nobody_knows_the_cost_of_has_no_shares() -> None:
    assert shares_of(None, ["a"]) == {}
    assert shares_of(Decimal(1), []) == {}


def test_longer_texts_have_larger_shares() -> None:
    assert shares_of(Decimal(6), ["a", "bb", "ccc"]) == {"a": 1, "bb": 2, "ccc": 3}


def test_savings_are_added_to_those_that_are_known() -> None:
    assert saving(None, []) is None
    assert saving(None, [Decimal(1), Decimal(2)]) == 3
    assert saving(Decimal(4), [Decimal(1)]) == 5
    assert saving(Decimal(4), []) == 4


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=16), COSTS | st.none())
def test_vector_and_its_price_come_back(vector: list[float], cost: Decimal | None) -> None:
    packed = pack(vector)

    kept = with_price(packed, cost)
    assert without_price(kept) == (packed, cost)
    # An instance of before must not take the price for numbers of the vector.
    assert (len(kept) % 4 == 0) == (cost is None)


@pytest.mark.parametrize(
    "damaged",
    [b"\0", b"12345", b"abcdWORD\x04", b"abcdInfi\x04", b"0.10\x04", b"abcd\xff"],
)
def test_what_is_neither_a_vector_nor_one_with_a_price_is_nothing(damaged: bytes) -> None:
    assert without_price(damaged) is None


@given(st.binary(max_size=64))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    found = without_price(data)
    assert found is None or len(found[0]) % 4 == 0
