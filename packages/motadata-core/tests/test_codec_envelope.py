"""The envelope and the golden files: what was written once stays readable, or says why not."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motadata.core.codec import JsonCodec, MessagePackCodec, get_codec, seal, unseal
from motadata.core.errors import CodecError
from motadata.core.models import Embeddings, Health, Message, Passage, Usage
from motadata.core.protocols import Codec
from motadata.core.testing.codec import codec_values


GOLDEN = Path(__file__).parent / "golden" / "codec"

# What the golden files hold. A file is never written again: a new form gets a new file.
FIRST = {
    "none": None,
    "yes": True,
    "no": False,
    "integers": [0, -1, 2**53 + 1, -(2**63), 2**64 - 1, 2**64, -(2**70)],
    "floats": [0.1, -0.0, 1e-7, 1e16, 5e-324, 1.7976931348623157e308],
    "text": 'Grüße, 世界 🛰 \x00"\\/',
    "bytes": b"\x00\xff\x10",
    "moment": datetime(2026, 11, 22, 9, 30, 0, 123456, tzinfo=UTC),
    "offset": datetime(2026, 3, 29, 2, 30, tzinfo=timezone(timedelta(hours=5, minutes=30))),
    "day": date(2026, 11, 22),
    "id": UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
    "price": Decimal("0.10"),
    "escaped": [{"$uuid": "x"}, {"$$uuid": "x"}, {"$a": 1, "b": 2}],
    "empty": [[], {}, ""],
    "records": [
        Usage(3, 4, Decimal("0.10")),
        Message("user", "Why?", passages=(Passage(1, "Because.", "T", None),)),
        Health("degraded", "slow", {"database": Health("ok")}),
        Embeddings(((0.6, -0.8), (1.0, 0.0)), "m"),
    ],
}
SECOND = FIRST | {
    "local": [datetime(2026, 10, 25, 2, 30), datetime(2026, 10, 25, 2, 30, fold=1)],  # noqa: DTZ001
}
ENGINES: list[Codec] = [JsonCodec(engine="plain"), MessagePackCodec(engine="plain")]
if find_spec("ormsgpack") and find_spec("msgspec"):
    ENGINES += [JsonCodec(engine="fast"), MessagePackCodec(engine="fast")]
FORMATS = [
    "json",
    "msgpack",
    *(["protobuf"] if find_spec("google") and find_spec("google.protobuf") else []),
]


def _codecs(suffix: str) -> list[Codec]:
    return [codec for codec in ENGINES if codec.content_type.endswith(suffix)]


@pytest.mark.parametrize("suffix", ["json", "msgpack"])
def test_values_from_before_there_were_envelopes_are_read(suffix: str) -> None:
    data = (GOLDEN / f"first.{suffix}").read_bytes()

    for codec in _codecs(suffix):
        assert repr(codec.decode(data)) == repr(FIRST)


@pytest.mark.parametrize("suffix", FORMATS)
def test_first_version_of_the_envelope_is_read(suffix: str) -> None:
    data = (GOLDEN / f"envelope-1.{suffix}").read_bytes()

    assert repr(unseal(data)) == repr(SECOND)
    for codec in _codecs(suffix):
        assert repr(unseal(data, codecs=[codec])) == repr(SECOND)


@pytest.mark.parametrize("suffix", FORMATS)
def test_envelope_of_a_vector_is_read(suffix: str) -> None:
    numpy = pytest.importorskip("numpy", reason="vectors of numpy are an extra")
    data = (GOLDEN / f"vectors-1.{suffix}").read_bytes()

    got = unseal(data)

    assert isinstance(got, list)
    assert [vector.dtype.str for vector in got] == ["<f4", "<f8", "<f4"]
    assert [vector.tolist() for vector in got] == [
        numpy.array([0.1, -0.0, 3e38], "<f4").tolist(),
        [0.1, 5e-324],
        (numpy.arange(384) / 7 - 3).astype("<f4").tolist(),
    ]


@pytest.mark.parametrize("suffix", ["msgpack", "protobuf"])
def test_same_value_is_written_as_ever(suffix: str) -> None:
    if suffix not in FORMATS:
        pytest.skip("Protobuf is an extra")
    codec = get_codec(f"application/{suffix}")

    # Records may have gained fields with defaults since; everything else has one form.
    plain = {name: item for name, item in SECOND.items() if name != "records"}
    written = unseal((GOLDEN / f"envelope-1.{suffix}").read_bytes())
    assert isinstance(written, dict)
    del written["records"]
    assert codec.encode(plain) == codec.encode(written)


@given(value=codec_values())
def test_value_comes_back_from_its_envelope(value: object) -> None:
    for codec in ENGINES:
        assert repr(unseal(seal(value, codec=codec))) == repr(codec.decode(codec.encode(value)))


def test_envelope_says_its_version_and_its_format() -> None:
    assert seal([1], codec=JsonCodec()) == b"\x08\x01\x12\x10application/json\x1a\x03[1]"
    assert seal([1]) == b"\x08\x01\x12\x13application/msgpack\x1a\x02\x91\x01"


def test_newer_version_is_an_error_that_says_what_to_do() -> None:
    for version in (b"\x02", b"\x00", b"\xff\x01"):
        with pytest.raises(CodecError, match="update motadata-core"):
            unseal(b"\x08" + version + seal([1])[2:])


def test_unknown_format_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(CodecError, match="application/json, application/msgpack"):
        unseal(seal([1]).replace(b"application/msgpack", b"application/x-thing"))


@given(st.binary(max_size=60), st.binary(max_size=8), st.integers(0, 80))
def test_damaged_envelope_is_read_or_refused(noise: bytes, patch: bytes, place: int) -> None:
    whole = seal({"text": "x" * 30})
    for data in (noise, whole[:place], whole[:place] + patch + whole[place + len(patch) :]):
        try:
            unseal(data)
        except CodecError:
            continue


def test_content_behind_the_envelope_is_refused() -> None:
    with pytest.raises(CodecError, match="no envelope"):
        unseal(seal([1]) + b"\x1a\x00")


def test_envelope_beyond_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(CodecError, match="at most 356"):
        unseal(seal("x" * 1_000), max_bytes=100)
    with pytest.raises(CodecError, match="at most 100"):
        unseal(seal("x" * 150), codecs=[MessagePackCodec(max_bytes=100)])


def test_what_is_not_bytes_is_no_envelope() -> None:
    with pytest.raises(CodecError, match="'str'"):
        unseal("text")  # type: ignore[arg-type]  # the point of the test
