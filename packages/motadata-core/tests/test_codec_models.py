"""Pydantic models: exactly, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from motadata.core.codec import JsonCodec, MessagePackCodec, ProtobufCodec, seal, unseal
from motadata.core.errors import CodecError, ConfigurationError
from motadata.core.models import Usage
from motadata.core.protocols import Codec


class Level(Enum):
    LOW = "low"
    HIGH = "high"


class Requester(BaseModel):
    name: str
    seen: datetime


class Ticket(BaseModel):
    model_config = ConfigDict(extra="allow")

    number: int
    key: UUID
    price: Decimal
    ratio: float
    opened: datetime
    level: Level
    tags: frozenset[str]
    path: tuple[int, str]
    attachment: bytes
    effort: timedelta
    alarm: time
    folder: Path
    requester: Requester
    by_number: dict[int, Level]
    note: str | None = Field(default=None, alias="remark")


class Login(BaseModel):
    password: SecretStr


class Doubling(BaseModel):
    number: int

    @field_validator("number")
    @classmethod
    def double(cls, number: int) -> int:
        return number * 2


TICKET = Ticket(
    number=2**70,
    key=UUID(int=7),
    price=Decimal("0.10"),
    ratio=0.1,
    opened=datetime(2026, 11, 22, 9, 30, 0, 5, tzinfo=UTC),
    level=Level.HIGH,
    tags=frozenset({"vpn", "$uuid"}),
    path=(1, "b"),
    attachment=b"\x00\xff",
    effort=timedelta(hours=1, microseconds=3),
    alarm=time(9, 30, 0, 1),
    folder=Path("/srv/tickets"),
    requester=Requester(name="A", seen=datetime(2026, 10, 25, 2, 30)),  # noqa: DTZ001
    by_number={1: Level.LOW},
    remark="$",
    extra_field=[1, 2.5, None],
)
MODELS = (Ticket, Requester)
MAKERS: list[Callable[..., Codec]] = [JsonCodec, MessagePackCodec]
if find_spec("google") and find_spec("google.protobuf"):
    MAKERS.append(ProtobufCodec)


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest) -> Callable[..., Codec]:
    maker: Callable[..., Codec] = request.param
    return maker


def test_model_comes_back_exactly(make: Callable[..., Codec]) -> None:
    codec = make(models=MODELS)
    value = {"ticket": TICKET, "more": [TICKET.requester, Usage(1)], "plain": {"$model": 1}}

    got = codec.decode(codec.encode(value))

    assert got == value
    assert repr(got) == repr(value)


def test_model_comes_back_from_an_envelope_of_a_codec_that_knows_it(
    make: Callable[..., Codec],
) -> None:
    codec = make(models=MODELS)

    assert unseal(seal(TICKET, codec=codec), codecs=[codec]) == TICKET
    with pytest.raises(CodecError, match="'Ticket' is unknown to this codec"):
        unseal(seal(TICKET, codec=codec))


def test_model_that_the_codec_was_not_told_of_is_refused(make: Callable[..., Codec]) -> None:
    class Requester(BaseModel):  # the name is known, the class is not
        name: str

    for value in (Requester(name="B"), Login(password=SecretStr("x"))):
        with pytest.raises(CodecError, match="has no encoding"):
            make(models=MODELS).encode(value)


@pytest.mark.parametrize(
    "model", [Login(password=SecretStr("hunter2")), Doubling(number=1)], ids=["secret", "validator"]
)
def test_model_that_would_not_come_back_is_refused_without_its_content(
    make: Callable[..., Codec], model: BaseModel
) -> None:
    with pytest.raises(CodecError, match="does not come back") as caught:
        make(models=[Login, Doubling]).encode({"inside": [model]})

    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_data_that_does_not_fit_names_the_field_and_not_what_it_holds() -> None:
    codec = JsonCodec(models=MODELS)

    with pytest.raises(CodecError, match=r"'Requester'.*seen \(") as caught:
        codec.decode(b'{"$model":["Requester",{"name":"A","seen":"what-somebody-wrote"}]}')

    assert "what-somebody-wrote" not in str(caught.value)


def test_model_with_a_number_that_is_not_finite_is_refused(make: Callable[..., Codec]) -> None:
    class Score(BaseModel):
        value: float

    with pytest.raises(CodecError):
        make(models=[Score]).encode(Score(value=float("inf")))


def test_two_models_of_one_name_are_a_mistake(make: Callable[..., Codec]) -> None:
    other = type("Ticket", (BaseModel,), {})

    with pytest.raises(ConfigurationError, match="Two models have the name 'Ticket'"):
        make(models=[Ticket, other])
    with pytest.raises(ConfigurationError, match="no class of pydantic models"):
        make(models=[dict])


def test_model_counts_as_one_level(make: Callable[..., Codec]) -> None:
    codec = make(models=MODELS, max_depth=2)
    requester = TICKET.requester

    assert codec.decode(codec.encode([requester])) == [requester]
    with pytest.raises(CodecError, match="too deep"):
        codec.encode([[requester]])
