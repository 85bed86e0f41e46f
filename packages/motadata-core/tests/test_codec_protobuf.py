"""Protobuf: the contract, the published file, and what other languages write."""

from __future__ import annotations

import re
from importlib import resources
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given
from hypothesis import strategies as st

from motadata.core.codec import ProtobufCodec, get_codec, seal, unseal
from motadata.core.errors import CodecError, ConfigurationError
from motadata.core.models import Health, Usage
from motadata.core.testing.codec import CodecConformance, codec_values


class TestProtobufCodecKeepsTheContract(CodecConformance):
    @pytest.fixture
    def codec(self) -> ProtobufCodec:
        return ProtobufCodec()


def _published() -> tuple[str, descriptor_pb2.FileDescriptorProto]:
    folder = resources.files("motadata.core.codec")
    files = descriptor_pb2.FileDescriptorSet.FromString(
        folder.joinpath("envelope.binpb").read_bytes()
    )
    return folder.joinpath("envelope.proto").read_text(), files.file[0]


def _message_class(name: str) -> Any:
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_published()[1])
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"motadata.core.v1.{name}"))


def test_descriptor_is_the_published_file() -> None:
    text, descriptor = _published()

    fields = re.findall(r"^  (?:repeated )?\w+ (\w+) = (\d+);", text, re.MULTILINE)
    kinds = re.findall(r"^  (KIND_\w+) = (\d+);", text, re.MULTILINE)

    assert [(name, int(number)) for name, number in fields] == [
        (field.name, field.number) for message in descriptor.message_type for field in message.field
    ]
    assert [(name, int(number)) for name, number in kinds] == [
        (value.name, value.number) for value in descriptor.enum_type[0].value
    ]


@given(value=codec_values(), content_type=st.sampled_from(["json", "msgpack", "protobuf"]))
def test_envelope_is_the_published_message_both_ways(value: object, content_type: str) -> None:
    codec = get_codec(f"application/{content_type}")
    envelope = _message_class("Envelope")

    written = envelope.FromString(seal(value, codec=codec))
    theirs = envelope(version=1, content_type=codec.content_type, body=codec.encode(value))

    assert written == theirs
    assert repr(unseal(theirs.SerializeToString())) == repr(codec.decode(written.body))


def test_value_of_another_language_is_read() -> None:
    value = _message_class("Value")
    theirs = value(
        kind="KIND_DICT",
        keys=["count", "$uuid", "numbers"],
        items=[
            value(kind="KIND_INTEGER", integer=3),
            value(kind="KIND_UUID", text="00000000-0000-0000-0000-000000000001"),
            value(kind="KIND_LIST", items=[value(kind="KIND_NUMBER", number=0.5)]),
        ],
    )

    got = ProtobufCodec().decode(theirs.SerializeToString())

    assert repr(got) == (
        "{'count': 3, '$uuid': UUID('00000000-0000-0000-0000-000000000001'), 'numbers': [0.5]}"
    )


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"kind": 99},
        {"kind": "KIND_DICT", "keys": ["a"]},
        {"kind": "KIND_DICT", "keys": ["a", "a"], "items": [{"kind": 1}, {"kind": 1}]},
        {"kind": "KIND_NUMBER", "number": float("nan")},
        {"kind": "KIND_NUMBERS", "numbers": [1.0, float("inf")]},
        {"kind": "KIND_UUID", "text": "x"},
        {"kind": "KIND_VECTOR_F4", "data": b"123"},
        {"kind": "KIND_VECTOR_F4", "data": b"\x00\x00\xc0\x7f"},
        {"kind": "KIND_RECORD", "text": "Nobody"},
        {"kind": "KIND_LIST", "items": [{}]},
    ],
    ids=repr,
)
def test_message_without_a_meaning_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(CodecError):
        ProtobufCodec().decode(_message_class("Value")(**fields).SerializeToString())


def test_field_that_is_unknown_or_twice_is_refused() -> None:
    codec = ProtobufCodec()
    data = codec.encode("text")

    for odd in (data + data, data + b"\x50\x01", data + b"\x08\x05"):
        with pytest.raises(CodecError, match="unknown, out of order or twice"):
            codec.decode(odd)


def test_kinds_of_a_float_list_and_a_vector_are_compact() -> None:
    numpy = pytest.importorskip("numpy", reason="vectors of numpy are an extra")
    codec = ProtobufCodec()

    assert len(codec.encode([0.5] * 384)) < 384 * 8 + 16
    assert len(codec.encode(numpy.zeros(384, "<f4"))) < 384 * 4 + 16


def test_nesting_up_to_its_own_limit_is_exact() -> None:
    codec = ProtobufCodec(max_depth=96)
    value: object = Usage(1)
    for _ in range(94):
        value = Health("ok", components={"a": value}) if isinstance(value, Health) else [value]

    assert codec.decode(codec.encode(value)) == value
    with pytest.raises(ConfigurationError, match="max_depth=97"):
        ProtobufCodec(max_depth=97)


def test_deeply_nested_message_is_refused_without_recursion() -> None:
    data = b""
    for _ in range(3_000):
        data = b"\x08\x07\x42" + _varint(len(data)) + data

    with pytest.raises(CodecError):
        ProtobufCodec().decode(data)


def _varint(number: int) -> bytes:
    written = bytearray()
    while number > 127:
        written.append(number & 127 | 128)
        number >>= 7
    return bytes([*written, number])
