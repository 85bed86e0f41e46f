"""The contract of a codec as tests: subclass and give the fixture `codec`.

    class TestMine(CodecConformance):
        @pytest.fixture
        def codec(self) -> Codec:
            return MyCodec()

Its limits must be at least 64 levels and 1 MiB.
"""

from __future__ import annotations

import math
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import cast
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from motadata.core.errors import CodecError
from motadata.core.models import (
    Answer,
    Citation,
    Completion,
    CompletionChunk,
    DocumentInfo,
    Embeddings,
    Health,
    Message,
    Passage,
    Record,
    ToolCall,
    ToolDefinition,
    Usage,
)
from motadata.core.protocols import Codec


_CITATION = Citation("vpn", "VPN", "vpn.md", 3, 1, "Tokens", 10, 42, "Reset it.", 0.75)
_MOMENT = datetime(2026, 11, 22, 9, 30, 0, 123456, tzinfo=UTC)

_RECORDS: tuple[Record, ...] = (
    Usage(input_tokens=3, output_tokens=4, cost_usd=Decimal("0.10")),
    Answer("q", "a [1]", (_CITATION, _CITATION), usage=Usage(1, 2, None), trace_id="0" * 32),
    Completion("", "m", "tool_calls", (ToolCall("1", "search", '{"q": "\\u0000"}'),)),
    CompletionChunk("text", usage=None),
    Embeddings(((0.6, -0.8), (1.0, 0.0)), "m"),
    Embeddings((), "m"),
    Message("user", "Why?", passages=(Passage(1, "Because.", "T", None),)),
    ToolDefinition("t", "d", {"type": "object", "properties": {"$ref": {"$ref": "#/x"}}}),
    DocumentInfo("d", "t", "s", 1, "text/plain", "0" * 64, 5, 1, _MOMENT, {"team": "network"}),
    Health("degraded", "slow", {"database": Health("ok"), "cache": Health("down", "gone")}),
)

_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**63, max_value=2**200)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.binary()
    | st.datetimes(timezones=st.none() | st.just(UTC))
    | st.dates()
    | st.uuids()
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.sampled_from(_RECORDS)
)
_KEYS = st.text() | st.sampled_from(["$datetime", "$record", "$$bytes", "$", "$unknown"])
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=20,
)


def codec_values() -> st.SearchStrategy[object]:
    """Return a hypothesis strategy of values that every codec must bring back exactly."""
    return _VALUES


# One kit's method runs for several subclasses, and a codec keeps nothing between examples.
_PROPERTY = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
    deadline=None,
)


class _Colour(Enum):
    RED = 1


class CodecConformance:
    """What every implementation of `motadata.core.protocols.Codec` must do."""

    @pytest.fixture
    def codec(self) -> Codec:
        """Supply the implementation."""
        message = "A subclass supplies the fixture `codec`."
        raise NotImplementedError(message)

    @given(value=_VALUES)
    @_PROPERTY
    def test_value_comes_back_exactly(self, codec: Codec, value: object) -> None:
        got = codec.decode(codec.encode(value))

        assert _exact(got) == _exact(value)

    @given(data=st.binary(max_size=200))
    @_PROPERTY
    def test_arbitrary_bytes_are_decoded_or_refused(self, codec: Codec, data: bytes) -> None:
        try:
            value = codec.decode(data)
        except CodecError:
            return
        assert _exact(codec.decode(codec.encode(value))) == _exact(value)

    @given(value=_VALUES, data=st.data())
    @_PROPERTY
    def test_damaged_bytes_are_decoded_or_refused(
        self, codec: Codec, value: object, data: st.DataObject
    ) -> None:
        encoded = bytearray(codec.encode(value))
        place = data.draw(st.integers(0, len(encoded) - 1))
        encoded[place] = data.draw(st.integers(0, 255))
        cut = data.draw(st.integers(0, len(encoded)))

        for damaged in (bytes(encoded), bytes(encoded[:cut])):
            try:
                codec.decode(damaged)
            except CodecError:
                continue

    @pytest.mark.parametrize("record", _RECORDS, ids=lambda record: type(record).__name__)
    def test_record_comes_back_with_the_types_of_its_fields(
        self, codec: Codec, record: Record
    ) -> None:
        got = codec.decode(codec.encode(record))

        assert got == record
        assert repr(got) == repr(record)

    def test_tuple_comes_back_as_a_list(self, codec: Codec) -> None:
        assert codec.decode(codec.encode((1, (2, 3)))) == [1, [2, 3]]

    def test_integer_of_any_size_stays_exact(self, codec: Codec) -> None:
        for value in (2**53 + 1, 2**63, -(2**63) - 1, 2**64, -(2**64) + 1, 7**20000):
            assert codec.decode(codec.encode(value)) == value

    def test_negative_zero_keeps_its_sign(self, codec: Codec) -> None:
        got = codec.decode(codec.encode(-0.0))

        assert isinstance(got, float)
        assert math.copysign(1, got) == -1

    def test_offset_of_a_datetime_is_kept(self, codec: Codec) -> None:
        moment = datetime(2026, 3, 29, 2, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))

        got = codec.decode(codec.encode(moment))

        assert got == moment
        assert isinstance(got, datetime)
        assert got.utcoffset() == moment.utcoffset()

    @pytest.mark.parametrize("fold", [0, 1])
    def test_datetime_without_zone_stays_without_and_keeps_its_fold(
        self, codec: Codec, fold: int
    ) -> None:
        moment = datetime(2026, 10, 25, 2, 30, fold=fold)  # noqa: DTZ001 - the point of the test

        got = codec.decode(codec.encode([moment]))

        assert got == [moment]
        assert repr(got) == repr([moment])

    def test_bytes_that_can_change_come_back_as_bytes(self, codec: Codec) -> None:
        got = codec.decode(codec.encode([bytearray(b"a"), memoryview(b"b")]))

        assert got == [b"a", b"b"]
        assert [type(item) for item in cast("list[object]", got)] == [bytes, bytes]

    @pytest.mark.parametrize("kind", ["<f4", "<f8", ">f4"])
    @pytest.mark.parametrize("size", [0, 1, 2, 5, 384, 20_000])
    def test_vector_of_numpy_comes_back_exactly(self, codec: Codec, kind: str, size: int) -> None:
        numpy = pytest.importorskip("numpy", reason="vectors of numpy are an extra")
        vector = (numpy.arange(size) / 7 - 3).astype(kind)

        alone = codec.decode(codec.encode(vector))
        inside = cast("dict[str, object]", codec.decode(codec.encode({"v": vector, "t": "$"})))

        for got in (alone, inside["v"]):
            assert isinstance(got, numpy.ndarray)
            assert got.dtype.str == kind.replace(">", "<")
            assert got.astype(kind).tobytes() == vector.tobytes()

    @pytest.mark.parametrize("odd", ["int64", "float16", "matrix", "nan", "infinity", "objects"])
    def test_array_that_is_no_finite_vector_is_refused(self, codec: Codec, odd: str) -> None:
        numpy = pytest.importorskip("numpy", reason="vectors of numpy are an extra")
        array = {
            "int64": numpy.arange(3),
            "float16": numpy.zeros(3, "f2"),
            "matrix": numpy.zeros((2, 2)),
            "nan": numpy.array([1.0, math.nan]),
            "infinity": numpy.array([math.inf], "f4"),
            "objects": numpy.array([None]),
        }[odd]

        for value in (array, {"inside": [array]}):
            with pytest.raises(CodecError):
                codec.encode(value)

    def test_vector_whose_square_is_too_large_for_its_type_is_exact(self, codec: Codec) -> None:
        numpy = pytest.importorskip("numpy", reason="vectors of numpy are an extra")
        vector = numpy.array([3e38, -3e38], "f4")

        got = codec.decode(codec.encode(vector))

        assert isinstance(got, numpy.ndarray)
        assert got.tolist() == vector.tolist()

    @pytest.mark.parametrize(
        "value",
        [
            float("nan"),
            float("inf"),
            [1.0, float("-inf")],
            Decimal("NaN"),
            Decimal("-Infinity"),
            {1: "a"},
            {b"k": 1},
            {1, 2},
            pytest.param(object(), id="object"),
            _Colour.RED,
            timedelta(seconds=1),
            "half a pair \ud800",
            {"\udfff": 1},
        ],
        ids=repr,
    )
    def test_value_without_an_encoding_is_refused(self, codec: Codec, value: object) -> None:
        with pytest.raises(CodecError):
            codec.encode(value)
        with pytest.raises(CodecError):
            codec.encode({"inside": [value]})

    def test_record_of_somebody_else_is_refused(self, codec: Codec) -> None:
        class Usage(Record):
            pass

        with pytest.raises(CodecError):
            codec.encode(Usage())

    def test_nesting_up_to_the_limit_is_exact_and_beyond_it_refused(self, codec: Codec) -> None:
        for inside in ("core", UUID(int=1), 2**70, _MOMENT, b"b", 0.5):
            assert codec.decode(codec.encode(_nested(64, inside))) == _nested(64, inside)
        for depth in (2_000, 100_000):
            with pytest.raises(CodecError):
                codec.encode(_nested(depth))

    def test_stack_that_is_nearly_full_ends_in_a_value_or_a_refusal(self, codec: Codec) -> None:
        value = _nested(50, list(_RECORDS))
        data = codec.encode(value)

        def use(depth: int) -> int:
            """Return how many frames were free, having used the codec with ever more of them."""
            try:
                room = use(depth + 1) + 1
            except RecursionError:
                return 0
            if room in range(20, 300, 10):
                with suppress(CodecError):
                    codec.encode(value)
                with suppress(CodecError):
                    codec.decode(data)
            return room

        assert use(0) > 300

    def test_value_that_holds_itself_is_refused(self, codec: Codec) -> None:
        value: list[object] = []
        value.append(value)

        with pytest.raises(CodecError):
            codec.encode(value)

    def test_no_bytes_and_no_bytes_at_all_are_refused(self, codec: Codec) -> None:
        with pytest.raises(CodecError):
            codec.decode(b"")
        with pytest.raises(CodecError):
            codec.decode("text")  # type: ignore[arg-type]  # the point of the test

    def test_content_behind_the_value_is_refused(self, codec: Codec) -> None:
        with pytest.raises(CodecError):
            codec.decode(codec.encode([1]) + codec.encode([2]))

    def test_error_does_not_quote_the_value(self, codec: Codec) -> None:
        text = "what-somebody-wrote"

        with pytest.raises(CodecError) as caught:
            codec.decode(codec.encode({"note": text})[:-1])

        assert text not in str(caught.value)
        assert caught.value.__cause__ is None

    def test_content_type_is_a_media_type(self, codec: Codec) -> None:
        kind, _, name = codec.content_type.partition("/")

        assert kind
        assert name


def _nested(depth: int, inside: object = "core") -> object:
    value = inside
    for _ in range(depth):
        value = [value]
    return value


def _exact(value: object) -> object:
    """Return a form in which 1, 1.0 and True, or two spellings of a decimal, differ."""
    if isinstance(value, list | tuple):
        return [_exact(item) for item in value]
    if isinstance(value, dict):
        return {key: _exact(item) for key, item in value.items()}
    if isinstance(value, Record):
        return type(value).__name__, _exact({name: value[name] for name in value.keys()})  # noqa: SIM118
    if isinstance(value, str | bytes | date | UUID):
        return type(value).__name__, value
    return type(value).__name__, repr(value)
