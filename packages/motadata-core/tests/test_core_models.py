from __future__ import annotations

import dataclasses
import inspect
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from motadata.core import models, protocols
from motadata.core.models import Answer, Citation, DocumentInfo, Health, Record, Usage


CITATION = Citation("vpn", "VPN", "vpn.md", 1, None, "Reset", 0, 5, "Reset", 0.5)
ANSWER = Answer("q", "a [1]", citations=(CITATION,), usage=Usage(1, 2, Decimal("0.10")))


def test_record_reads_as_attributes_and_as_a_mapping() -> None:
    assert ANSWER["answer"] == ANSWER.answer == "a [1]"
    assert ANSWER["citations"] is ANSWER.citations
    assert dict(ANSWER)["query"] == "q"  # type: ignore[call-overload]  # it has keys and items
    assert {**CITATION}["quote"] == "Reset"  # type: ignore[arg-type]  # as above


@pytest.mark.parametrize("name", ["absent", "to_dict", "keys", "__class__", "_fields", ""])
def test_only_fields_can_be_read_by_name(name: str) -> None:
    with pytest.raises(KeyError):
        ANSWER[name]


def test_plain_form_holds_no_records_and_no_tuples() -> None:
    plain = ANSWER.to_dict()

    assert plain["citations"] == [CITATION.to_dict()]
    assert plain["usage"] == Usage(1, 2, Decimal("0.10")).to_dict()
    assert Usage(1, 2).to_dict()["output_tokens"] == 2


def test_plain_form_reaches_into_mappings() -> None:
    health = Health("degraded", components={"cache": Health("down", "gone")})

    assert health.to_dict()["components"] == {
        "cache": {"status": "down", "detail": "gone", "components": {}}
    }


def test_plain_form_keeps_datetimes() -> None:
    moment = datetime(2026, 11, 22, tzinfo=UTC)
    info = DocumentInfo("d", "t", "s", 1, "text/plain", "0" * 64, 1, 1, moment)

    assert info.to_dict()["updated_at"] == moment


@pytest.mark.parametrize("room", [models, protocols], ids=lambda room: room.__name__)
def test_every_record_is_a_frozen_dataclass_with_slots_and_docs(room: object) -> None:
    records = [
        item
        for _, item in inspect.getmembers(room, inspect.isclass)
        if issubclass(item, Record) and item is not Record
    ]

    assert records
    for record in records:
        assert dataclasses.is_dataclass(record)
        assert record.__dataclass_params__.frozen  # type: ignore[attr-defined]  # a dataclass
        assert not hasattr(record, "__dict__") or "__dict__" not in record.__slots__
        assert record.__doc__


def test_record_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ANSWER.answer = "other"  # type: ignore[misc]  # the point of the test


def test_everything_listed_is_there() -> None:
    for room in (models, protocols):
        assert all(hasattr(room, name) for name in room.__all__)
