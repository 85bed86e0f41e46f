from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from motadata.core import models
from motadata.core.codec import JsonCodec, MessagePackCodec, get_codec
from motadata.core.codec._json import _NESTING
from motadata.core.codec._records import _RECORDS, _fields_of
from motadata.core.errors import CodecError, ConfigurationError
from motadata.core.models import Record, ToolCall, ToolDefinition, Usage
from motadata.core.testing.codec import CodecConformance


class TestPlainJsonCodecKeepsTheContract(CodecConformance):
    @pytest.fixture
    def codec(self) -> JsonCodec:
        return JsonCodec(engine="plain")


class TestPlainMessagePackCodecKeepsTheContract(CodecConformance):
    @pytest.fixture
    def codec(self) -> MessagePackCodec:
        return MessagePackCodec(engine="plain")


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (datetime(2026, 11, 22, 9, 30, tzinfo=UTC), {"$datetime": "2026-11-22T09:30:00+00:00"}),
        (UUID(int=1), {"$uuid": "00000000-0000-0000-0000-000000000001"}),
        (Decimal("0.10"), {"$decimal": "0.10"}),
        (b"\x00\xff", {"$bytes": "AP8="}),
        (2**64, {"$int": "0x10000000000000000"}),
        ({"$uuid": "x"}, {"$$uuid": "x"}),
        ({"$$uuid": "x"}, {"$$$uuid": "x"}),
        ({"$uuid": "x", "other": 1}, {"$uuid": "x", "other": 1}),
        (
            ToolCall("1", "search", "{}"),
            {"$record": ["ToolCall", {"id": "1", "name": "search", "arguments": "{}"}]},
        ),
    ],
    ids=repr,
)
def test_json_form_is_the_documented_one(value: object, form: object) -> None:
    assert json.loads(JsonCodec().encode(value)) == form


@pytest.mark.parametrize(
    "text",
    [
        '{"$unknown": 1}',
        '{"$": 1}',
        '{"$datetime": 1}',
        '{"$datetime": "2026-11-22T09:30:00;fold=2"}',
        '{"$vector": "AAAA"}',
        '{"$vector": ["<f4", "***"]}',
        '{"$vector": ["<f4", "AAA="]}',
        '{"$vector": ["<f2", "AAAA"]}',
        '{"$model": ["Nobody", {}]}',
        '{"$model": {}}',
        '{"$datetime": "yesterday"}',
        '{"$date": "2026-13-01"}',
        '{"$uuid": "x"}',
        '{"$decimal": "NaN"}',
        '{"$decimal": "1,5"}',
        '{"$int": "0xzz"}',
        '{"$bytes": "***"}',
        '{"$record": {}}',
        '{"$record": ["Usage"]}',
        '{"$record": ["Nobody", {}]}',
        '{"$record": ["Record", {}]}',
        '{"$record": ["Usage", {"input_tokens": "3"}]}',
        '{"$record": ["Usage", {"input_tokens": true}]}',
        '{"$record": ["Usage", {"price": 3}]}',
        '{"$record": ["Health", {}]}',
        '{"$record": ["Health", {"status": "splendid"}]}',
        '{"$record": ["Health", {"status": "ok", "components": {"a": {}}}]}',
        '{"$record": ["Embeddings", {"model": "m", "vectors": [1.0]}]}',
    ],
)
def test_malformed_tag_is_refused(text: str) -> None:
    with pytest.raises(CodecError):
        JsonCodec().decode(text.encode())


def test_vector_with_a_number_that_is_not_finite_is_refused() -> None:
    pytest.importorskip("numpy", reason="vectors of numpy are an extra")

    with pytest.raises(CodecError, match="NaN"):
        JsonCodec().decode(b'{"$vector": ["<f4", "AADAfw=="]}')


@pytest.mark.parametrize(
    "data",
    [
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"1e999",
        b"[-1e999]",
        b"9" * 5000,
        b'{"a": 1, "a": 2}',
        b'"\\ud800"',
        b"\xef\xbb\xbf1",
        b"\xff",
        b"1 2",
        b"[1,]",
        "é".encode("utf-16"),
    ],
    ids=lambda data: repr(data[:12]),
)
def test_json_that_others_would_read_differently_is_refused(data: bytes) -> None:
    with pytest.raises(CodecError):
        JsonCodec().decode(data)


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 1_000_000,
        b'{"a":' * 200_000,
        b'"' + b'\\"' * 500_000,
        b'"' + b'\\"' * 500_000 + b"\\",
        b"[" * 500 + b'"' + b'\\"' * 500_000 + b"\\",
        b'["a",' * 200_000,
    ],
    ids=lambda data: repr(data[:8]),
)
def test_hostile_json_is_refused_quickly(data: bytes) -> None:
    started = time.process_time()

    with pytest.raises(CodecError):
        JsonCodec().decode(data)

    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    "data",
    [
        b"\x91" * 1_000_000 + b"\xc0",
        b"\x81\xa1a" * 100_000 + b"\xc0",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xffa",
        b"\xa2\xff\xfe",
        b"\x81\x01\x02",
        b"\x81\xc4\x01a\x02",
        b"\xc7\x01\x05a",
        b"\xd6\xff\x00\x00\x00\x00",
        b"\x82\xa1a\x01\xa1a\x02",
        b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00",
        b"\xc1",
    ],
    ids=lambda data: repr(data[:8]),
)
def test_hostile_message_pack_is_refused(data: bytes) -> None:
    with pytest.raises(CodecError):
        MessagePackCodec().decode(data)


def test_message_pack_keeps_bytes_and_big_integers_as_short_as_it_can() -> None:
    codec = MessagePackCodec()

    assert codec.encode(b"\x00\xff") == msgpack.packb(b"\x00\xff")
    assert codec.encode(2**64 - 1) == msgpack.packb(2**64 - 1)
    assert codec.encode(-(2**63)) == msgpack.packb(-(2**63))


@pytest.mark.parametrize("codec_type", [JsonCodec, MessagePackCodec])
def test_what_is_larger_than_the_limit_is_refused_both_ways(
    codec_type: type[JsonCodec | MessagePackCodec],
) -> None:
    codec = codec_type(max_bytes=100)
    large = codec_type().encode("x" * 200)

    with pytest.raises(CodecError, match="at most 100"):
        codec.encode("x" * 200)
    with pytest.raises(CodecError, match="at most 100"):
        codec.decode(large)


@pytest.mark.parametrize("codec_type", [JsonCodec, MessagePackCodec])
def test_depth_limit_counts_records_as_one_level(
    codec_type: type[JsonCodec | MessagePackCodec],
) -> None:
    codec = codec_type(max_depth=2)

    assert codec.decode(codec.encode([Usage(1)])) == [Usage(1)]
    with pytest.raises(CodecError):
        codec.encode([[Usage(1)]])
    with pytest.raises(CodecError):
        codec.decode(codec_type().encode([[Usage(1)]]))


@pytest.mark.parametrize("codec_type", [JsonCodec, MessagePackCodec])
def test_records_within_each_other_are_read_up_to_the_limit(
    codec_type: type[JsonCodec | MessagePackCodec],
) -> None:
    codec = codec_type(max_depth=9)
    value: object = ToolDefinition("t", "d", {"a": [Usage(cost_usd=Decimal(1))]})
    for _ in range(5):
        value = [value]

    assert codec.decode(codec.encode(value)) == value
    with pytest.raises(CodecError):
        codec.encode([value])


def test_limit_must_be_positive() -> None:
    with pytest.raises(ConfigurationError, match="max_depth=0"):
        JsonCodec(max_depth=0)


def test_field_that_has_a_default_may_be_absent() -> None:
    decoded = JsonCodec().decode(b'{"$record": ["Usage", {"input_tokens": 5}]}')

    assert decoded == Usage(input_tokens=5)


def test_every_record_of_the_models_has_an_encoding() -> None:
    records = {
        name
        for name in models.__all__
        if isinstance(getattr(models, name), type)
        and issubclass(getattr(models, name), Record)
        and name != "Record"
    }

    assert set(_RECORDS) == records
    for name in records:
        readers, _ = _fields_of(name)
        assert readers


@pytest.mark.parametrize(
    ("content_type", "codec_type"),
    [
        ("application/json", JsonCodec),
        ("Application/JSON; charset=utf-8", JsonCodec),
        ("application/msgpack", MessagePackCodec),
    ],
)
def test_codec_is_found_by_its_media_type(content_type: str, codec_type: type) -> None:
    assert type(get_codec(content_type)) is codec_type


def test_unknown_media_type_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(CodecError, match="application/json, application/msgpack"):
        get_codec("application/x-pickle")


@given(
    st.recursive(
        st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_nesting_scan_agrees_with_the_parser(value: object) -> None:
    data = json.dumps(value).encode()
    depth = deepest = 0
    for found in _NESTING.finditer(data):
        if found.group() in (b"[", b"{"):
            depth += 1
            deepest = max(deepest, depth)
        elif found.group() in (b"]", b"}"):
            depth -= 1

    assert (depth, deepest) == (0, _depth(value))


def _depth(value: object) -> int:
    if isinstance(value, list):
        return 1 + max((_depth(item) for item in value), default=0)
    if isinstance(value, dict):
        return 1 + max((_depth(item) for item in value.values()), default=0)
    return 0


@pytest.mark.parametrize("size", [0, 31, 32, 255, 256, 65_535, 65_536])
def test_text_alone_is_read_at_every_size_of_its_header(size: int) -> None:
    codec = MessagePackCodec()
    for text in ("x" * size, "ü" * (size // 2)):
        assert codec.decode(codec.encode(text)) == text
        assert codec.decode(msgpack.packb(text)) == text


@pytest.mark.parametrize(
    "data",
    [
        b"\xd9",
        b"\xda\x00",
        b"\xdb\x00\x00\x00",
        b"\xd9\x05four",
        b"\xd9\x03four",
        b"\xda\x00\x01\xff",
        b"\xd9\x03\xed\xa0\x80",
    ],
)
def test_text_alone_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(CodecError):
        MessagePackCodec().decode(data)
