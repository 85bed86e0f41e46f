from __future__ import annotations

import base64
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretBytes


pytest.importorskip("cryptography")

from motadata.core.errors import ConfigurationError, SecretUnreadableError
from motadata.core.security import LocalKeyManagement, WrappedKey
from motadata.core.security._encryption import associated_data, new_key, seal, unseal


PLACE = {"tenant": "acme", "name": "openai", "revision": "1"}
DATA_KEY = bytes(range(32))

texts = st.text(max_size=20)
places = st.dictionaries(texts, texts, max_size=4)


def keys(*versions: str) -> dict[str, SecretBytes]:
    return {version: SecretBytes(os.urandom(32)) for version in versions}


def environment(value: object) -> dict[str, str]:
    return {"MOTADATA_SECURITY_MASTER_KEYS": json.dumps(value)}


@given(left=places, right=places)
def test_two_places_never_have_the_same_associated_data(
    left: dict[str, str], right: dict[str, str]
) -> None:
    assert (associated_data(left) == associated_data(right)) == (left == right)


@given(plaintext=st.binary(max_size=200), place=places)
def test_sealed_bytes_open_with_their_key_in_their_place(
    plaintext: bytes, place: dict[str, str]
) -> None:
    key = new_key()

    assert unseal(key, seal(key, plaintext, place=place), place=place) == plaintext


@given(data=st.data())
def test_any_flipped_bit_is_noticed(data: st.DataObject) -> None:
    key = new_key()
    sealed = bytearray(seal(key, b"secret", place=PLACE))
    position = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[position // 8] ^= 1 << position % 8

    with pytest.raises(SecretUnreadableError):
        unseal(key, bytes(sealed), place=PLACE)


@pytest.mark.parametrize("length", [0, 11, 27])
def test_too_few_bytes_are_unreadable(length: int) -> None:
    with pytest.raises(SecretUnreadableError, match=f"{length} bytes"):
        unseal(new_key(), bytes(length), place=PLACE)


def test_data_key_of_another_length_is_unreadable() -> None:
    with pytest.raises(SecretUnreadableError, match="16 bytes"):
        unseal(bytes(16), seal(new_key(), b"x", place=PLACE), place=PLACE)


async def test_data_key_comes_back_from_each_version_that_is_kept() -> None:
    both = keys("1", "2")
    old = LocalKeyManagement(both, current_version="1")
    new = LocalKeyManagement(both)
    wrapped = await old.wrap(DATA_KEY, context=PLACE)

    assert (wrapped.version, await new.current_version()) == ("1", "2")
    assert await new.unwrap(wrapped, context=PLACE) == DATA_KEY


async def test_version_ten_is_higher_than_version_nine() -> None:
    assert await LocalKeyManagement(keys("9", "10")).current_version() == "10"


async def test_key_of_a_removed_version_cannot_be_unwrapped_and_the_error_names_it() -> None:
    wrapped = await LocalKeyManagement(keys("1")).wrap(DATA_KEY, context=PLACE)

    with pytest.raises(SecretUnreadableError, match="version '1' is not here"):
        await LocalKeyManagement(keys("2")).unwrap(wrapped, context=PLACE)


@pytest.mark.parametrize("changed", ["tenant", "name", "revision"])
async def test_wrapped_key_is_bound_to_its_context(changed: str) -> None:
    management = LocalKeyManagement(keys("1"))
    wrapped = await management.wrap(DATA_KEY, context=PLACE)

    with pytest.raises(SecretUnreadableError):
        await management.unwrap(wrapped, context={**PLACE, changed: "other"})


async def test_wrapped_key_is_bound_to_its_version() -> None:
    same = SecretBytes(os.urandom(32))
    management = LocalKeyManagement({"1": same, "2": same})
    wrapped = await management.wrap(DATA_KEY, context=PLACE)

    with pytest.raises(SecretUnreadableError):
        await management.unwrap(WrappedKey("1", wrapped.data), context=PLACE)


async def test_keys_are_read_from_the_environment() -> None:
    encoded = base64.b64encode(os.urandom(32)).decode()
    management = LocalKeyManagement.from_environment(environment({"1": encoded, "2": encoded}))

    assert await management.current_version() == "2"


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ({}, "no master key"),
        ({"1": "not/base64!hunter2"}, "not valid base64"),
        ({"1": base64.b64encode(b"hunter2").decode()}, "has 7 bytes"),
        ({"01": base64.b64encode(bytes(32)).decode()}, "'01' is no version"),
        ({"two": base64.b64encode(bytes(32)).decode()}, "'two' is no version"),
        ({"1" * 5000: base64.b64encode(bytes(32)).decode()}, "is no version"),
        ({"0": base64.b64encode(bytes(32)).decode()}, "'0' is no version"),
        ("hunter2", "does not fit"),
    ],
)
def test_unfit_keys_are_refused_without_being_quoted(value: object, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint) as caught:
        LocalKeyManagement.from_environment(environment(value))

    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_current_version_without_a_key_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="current version '3'"):
        LocalKeyManagement(keys("1", "2"), current_version="3")


async def test_no_key_is_shown() -> None:
    secret = os.urandom(32)
    management = LocalKeyManagement({"1": SecretBytes(secret)})
    wrapped = await management.wrap(DATA_KEY, context=PLACE)

    assert repr(management) == "LocalKeyManagement(versions=['1'])"
    assert repr(wrapped) == "WrappedKey(version='1')"
