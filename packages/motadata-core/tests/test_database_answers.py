"""Answers that were damaged on their way are found before the driver reads them."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motadata.core.database._answers import Answers, CheckedAnswers


Columns = list[bytes | None]

columns = st.lists(st.none() | st.binary(max_size=40), max_size=6)
others = st.tuples(st.sampled_from(b"RKSTCEZIN123tnA"), st.binary(max_size=40))


def row(values: Iterable[bytes | None]) -> bytes:
    values = list(values)
    body = struct.pack("!h", len(values))
    for value in values:
        body += struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value
    return message(ord("D"), body)


def message(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + struct.pack("!i", len(body) + 4) + body


def pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    places = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    return [data[start:stop] for start, stop in pairwise(places)]


class Driver(asyncio.Protocol):
    def __init__(self) -> None:
        self.received = b""
        self.lost = 0

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, error: Exception | None) -> None:
        self.lost += 1


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.aborted = 0

    def abort(self) -> None:
        self.aborted += 1


@given(st.lists(columns.map(row) | others.map(lambda one: message(*one))), st.lists(st.integers()))
def test_whole_answers_fit_however_they_are_cut(messages: list[bytes], cuts: list[int]) -> None:
    driver, transport = Driver(), Transport()
    checked = CheckedAnswers(transport, driver)
    data = b"".join(messages)

    for piece in pieces(data, cuts):
        checked.data_received(piece)

    assert driver.received == data
    assert not transport.aborted


@given(columns.filter(bool), st.integers(0, 31), st.data(), st.lists(st.integers()))
def test_a_column_of_another_length_never_reaches_the_driver_whole(
    values: Columns, bit: int, data: st.DataObject, cuts: list[int]
) -> None:
    number = data.draw(st.integers(0, len(values) - 1))
    place = 7 + sum(4 + len(value or b"") for value in values[:number])
    damaged = bytearray(row(values))
    damaged[place + bit // 8] ^= 0x80 >> bit % 8
    driver, transport = Driver(), Transport()
    checked = CheckedAnswers(transport, driver)

    for piece in pieces(bytes(damaged), cuts):
        checked.data_received(piece)
    checked.data_received(row([b"late"]))

    # Where the damaged length happens to fit, as that of a NULL can, the row is one.
    if driver.received != bytes(damaged) + row([b"late"]):
        assert len(driver.received) < len(damaged)
        assert transport.aborted == 1
    else:
        assert Answers().fit(bytes(damaged))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x01\0\0\0\x04", id="no message of the protocol"),
        pytest.param(b"C\xff\xff\xff\xff", id="negative length"),
        pytest.param(b"C\0\0\0\x03", id="shorter than its own length"),
        pytest.param(message(ord("D"), b"\0"), id="row without a number of columns"),
        pytest.param(message(ord("D"), b"\xff\xff"), id="row of less than no columns"),
        pytest.param(message(ord("D"), b"\0\x01\0\0"), id="row that ends in a length"),
        pytest.param(message(ord("D"), b"\0\x01\0\0\0\x09short"), id="column beyond its row"),
        pytest.param(message(ord("D"), b"\0\x01\x80\0\0\x01x"), id="column of negative length"),
        pytest.param(message(ord("D"), b"\0\0more"), id="row with more than its columns"),
    ],
)
def test_what_cannot_be_ends_the_connection(data: bytes) -> None:
    driver, transport = Driver(), Transport()
    checked = CheckedAnswers(transport, driver)

    checked.data_received(data)
    checked.connection_lost(None)

    assert transport.aborted == 1
    assert driver.received == b""
    assert driver.lost == 1


def test_a_large_answer_in_many_pieces_is_measured_once() -> None:
    answers = Answers()
    large = row([b"x" * 5_000_000])

    for start in range(0, len(large), 1_000):
        assert answers.fit(large[start : start + 1_000])
        assert len(answers._pieces) <= 5_001
    assert answers._pieces == []
