"""The engines of the extra `fast`: the same contract, and the same answers as the plain ones."""

from __future__ import annotations

import json
import random
import sys
from uuid import UUID

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from motadata.core.codec import JsonCodec, MessagePackCodec
from motadata.core.errors import CodecError, MissingExtraError
from motadata.core.protocols import Codec
from motadata.core.testing.codec import CodecConformance, codec_values


class TestFastJsonCodecKeepsTheContract(CodecConformance):
    @pytest.fixture
    def codec(self) -> JsonCodec:
        return JsonCodec(engine="fast")


class TestFastMessagePackCodecKeepsTheContract(CodecConformance):
    @pytest.fixture
    def codec(self) -> MessagePackCodec:
        return MessagePackCodec(engine="fast")


PAIRS = [
    (JsonCodec(engine="fast"), JsonCodec(engine="plain")),
    (MessagePackCodec(engine="fast"), MessagePackCodec(engine="plain")),
]

# What libraries convert by themselves, lose or let pass: everything that has once been a trap.
TRAPS = (
    st.floats()
    | st.floats(width=32)
    | st.integers(2**63 - 2, 2**64 + 2)
    | st.integers(-(2**63) - 2, -(2**63) + 2)
    | st.dictionaries(st.sampled_from(["$", "$uuid", "$$", "a"]), st.integers(), max_size=2)
    | st.dictionaries(st.integers() | st.binary(max_size=2), st.none(), min_size=1, max_size=2)
    | st.text(st.characters(categories=["Cs", "L", "Cc"]), max_size=4)
    | st.tuples(st.integers(), st.text(max_size=2))
    | st.binary(max_size=40).map(bytearray)
    | st.times()
    | st.timedeltas()
    | st.sets(st.integers(), max_size=2)
)
VALUES = st.recursive(
    codec_values() | TRAPS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(("fast", "plain"), PAIRS, ids=["json", "msgpack"])
@given(value=VALUES)
def test_engines_write_what_the_other_reads_as_the_same(
    fast: Codec, plain: Codec, value: object
) -> None:
    written = [_attempt(codec, "encode", value) for codec in (fast, plain)]

    assert {type(data) for data in written} in ({bytes}, {CodecError})
    if isinstance(written[0], bytes) and isinstance(written[1], bytes):
        expected = repr(plain.decode(written[1]))
        assert expected == repr(fast.decode(written[0]))
        assert expected == repr(fast.decode(written[1]))
        assert expected == repr(plain.decode(written[0]))


@given(value=codec_values())
def test_engines_write_the_same_message_pack(value: object) -> None:
    fast, plain = PAIRS[1]

    assert fast.encode(value) == plain.encode(value)


JSON_PIECES = st.sampled_from(
    [
        *('{"a":', '"a"', ":", ",", "[", "]", "{", "}", "1", "-0", "1.0", "1e5", "1e999", "NaN"),
        *(
            "null",
            "true",
            " ",
            '"$uuid"',
            "0.10",
            "01",
            '"\\ud800"',
            '"\\u0061"',
            "9" * 20,
            "2e-07",
        ),
    ]
)
PACK_PIECES = st.sampled_from(
    [
        *(b"\x80", b"\x81", b"\x82", b"\xa1a", b"\xa5$uuid", b"\x90", b"\x92", b"\xc0", b"\xc3"),
        *(b"\xcb\x7f\xf0\0\0\0\0\0\0", b"\xcb\x3f\xf0\0\0\0\0\0\0", b"\xca\x3f\x80\0\0"),
        *(b"\xd9\x01a", b"\xc4\x01a", b"\xd6\x01\0\0\x80\x3f", b"\xd6\xff\0\0\0\0", b"\xdc\0\x01"),
    ]
)


@given(text=st.lists(JSON_PIECES, max_size=12).map("".join))
def test_engines_read_any_json_the_same_way(text: str) -> None:
    fast, plain = PAIRS[0]

    assert _outcome(plain, text.encode()) == _outcome(fast, text.encode())


@given(data=st.lists(PACK_PIECES, max_size=8).map(b"".join) | st.binary(max_size=60))
def test_engines_read_any_message_pack_the_same_way(data: bytes) -> None:
    fast, plain = PAIRS[1]

    assert _outcome(plain, data) == _outcome(fast, data)


@given(
    st.text("ax\x7f", min_size=240, max_size=280) | st.text("aé", min_size=240, max_size=280),
    VALUES,
    st.integers(1, 80),
    st.sampled_from(["ab", "ba"]),
)
def test_long_text_hides_nothing_around_it(
    text: str, value: object, depth: int, order: str
) -> None:
    fast = MessagePackCodec(engine="fast", max_depth=depth)
    plain = MessagePackCodec(engine="plain", max_depth=depth)
    whole = {key: {"a": text, "b": value}[key] for key in order}

    written = [_attempt(codec, "encode", whole) for codec in (fast, plain)]
    assert {type(data) for data in written} in ({bytes}, {CodecError})
    try:
        data: bytes = msgpack.packb(whole)
    except (TypeError, ValueError, OverflowError):
        return
    for damaged in (data, data + b"\x00", data.replace(b"a" * 9, b"\xcb\x7f\xf0" * 3)):
        assert _outcome(plain, damaged) == _outcome(fast, damaged)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("size", [255, 256, 257, 65_535, 65_536])
def test_number_that_is_none_is_found_before_and_behind_a_long_text(
    number: float, size: int
) -> None:
    fast, text = MessagePackCodec(engine="fast"), "x" * size
    for value in ({"a": number, "b": text}, {"b": text, "a": number}):
        with pytest.raises(CodecError, match="number"):
            fast.encode(value)
        with pytest.raises(CodecError, match="number"):
            fast.decode(msgpack.packb(value))


def test_depth_is_counted_around_a_long_text() -> None:
    fast = MessagePackCodec(engine="fast")
    for levels in (60, 62, 63, 64, 70):
        value: object = 1
        for _ in range(levels):
            value = [value]
        for whole in ({"a": value, "b": "x" * 300}, {"b": "x" * 300, "a": value}):
            data = msgpack.packb(whole)
            if levels < 64:
                assert fast.decode(data) == whole
                assert fast.encode(whole) == data
            else:
                with pytest.raises(CodecError, match="deep"):
                    fast.decode(data)
                with pytest.raises(CodecError, match="deep"):
                    fast.encode(whole)


@pytest.mark.parametrize(("fast", "plain"), PAIRS, ids=["json", "msgpack"])
def test_depth_is_limited_alike_at_the_very_limit(fast: Codec, plain: Codec) -> None:
    for depth in (63, 64, 65, 66, 300):
        value: object = [1]
        for _ in range(depth - 1):
            value = {"a": value} if depth % 2 else [value, "x"]
        raw = {
            JsonCodec: json.dumps(value, separators=(",", ":")).encode(),
            MessagePackCodec: msgpack.packb(value),
        }[type(fast)]
        for codec in (fast, plain):
            assert (depth <= 64) == isinstance(_attempt(codec, "encode", value), bytes)
            assert (depth <= 64) == isinstance(_attempt(codec, "decode", raw), dict | list)


@pytest.mark.parametrize("codec_type", [JsonCodec, MessagePackCodec])
def test_engine_that_is_asked_for_and_missing_is_an_error_that_names_the_extra(
    codec_type: type[JsonCodec | MessagePackCodec], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ormsgpack", None)

    with pytest.raises(MissingExtraError, match=r"motadata-core\[fast\]"):
        codec_type(engine="fast")
    assert codec_type().decode(codec_type().encode([1])) == [1]


@pytest.mark.parametrize(
    "inputs", [400, pytest.param(50_000, marks=[pytest.mark.soak, pytest.mark.timeout(600)])]
)
@pytest.mark.parametrize(("fast", "plain"), PAIRS, ids=["json", "msgpack"])
def test_engines_read_damaged_encodings_alike(fast: Codec, plain: Codec, inputs: int) -> None:
    chance = random.Random(7)
    valid = [
        plain.encode(value)
        for value in (
            {
                "a": [1, -1, 2**64 - 1, 0.5, -0.0, None, True, "text", b"bytes", "ä$"],
                "$b": {"$c": 1},
            },
            {
                "numbers": [0.1, 1e16, 5e-324],
                "id": UUID(int=1),
                "big": 2**70,
                "empty": [[], {}, ""],
            },
            [[[{"deep": [[[{"deeper": ["x" * 300]}]]]}]]],
        )
    ]
    for _ in range(inputs):
        data = bytearray(chance.choice(valid))
        for _ in range(chance.randint(1, 3)):
            place = chance.randrange(len(data))
            # Bytes from elsewhere in it are more often valid where they land.
            data[place] = chance.choice((chance.randrange(256), chance.choice(data)))
        if chance.random() < 0.2:
            del data[chance.randrange(len(data)) :]

        assert _outcome(plain, bytes(data)) == _outcome(fast, bytes(data)), bytes(data)


def _attempt(codec: Codec, name: str, argument: object) -> object:
    try:
        return getattr(codec, name)(argument)
    except CodecError:
        return CodecError("refused")


def _outcome(codec: Codec, data: bytes) -> str:
    try:
        return repr(codec.decode(data))
    except CodecError:
        return "refused"
