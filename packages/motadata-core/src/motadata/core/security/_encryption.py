"""AES-256-GCM, and the one form in which a ciphertext is bound to its place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from motadata.core.errors import MissingExtraError, SecretUnreadableError


KEY_LENGTH: Final = 32
_NONCE_LENGTH: Final = 12
_TAG_LENGTH: Final = 16


def require_cryptography() -> None:
    """Import the library, so that its absence shows before the first secret.

    Raises:
        MissingExtraError: The extra `security` is not installed.
    """
    try:
        import cryptography.hazmat.primitives.ciphers.aead  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "cryptography", extra="security", distribution="motadata-core"
        ) from error


def new_key() -> bytes:
    """Return 32 fresh random bytes."""
    return os.urandom(KEY_LENGTH)


def seal(key: bytes, plaintext: bytes, *, place: Mapping[str, str]) -> bytes:
    """Encrypt, and bind the result to `place`: nonce, ciphertext and tag in one.

    The nonce is random: a key may seal 2^32 times before two are likely to meet.
    """
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = os.urandom(_NONCE_LENGTH)
    return nonce + AESGCM(key).encrypt(nonce, plaintext, associated_data(place))


def unseal(key: bytes, sealed: bytes, *, place: Mapping[str, str]) -> bytes:
    """Decrypt what `seal` made with the same key for the same place.

    Raises:
        SecretUnreadableError: Key or place differ, or the bytes were changed.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    if len(key) != KEY_LENGTH:
        message = f"The data key has {len(key)} bytes instead of {KEY_LENGTH}."
        raise SecretUnreadableError(message, remedy="Look at what the key management returns.")
    if len(sealed) < _NONCE_LENGTH + _TAG_LENGTH:
        message = f"The encrypted value has {len(sealed)} bytes, too few to be one."
        raise SecretUnreadableError(message, remedy="Store the secret again.")
    nonce, ciphertext = sealed[:_NONCE_LENGTH], sealed[_NONCE_LENGTH:]
    try:
        return AESGCM(key).decrypt(nonce, ciphertext, associated_data(place))
    except InvalidTag as error:
        message = "The encrypted value does not belong to this key and this place."
        raise SecretUnreadableError(
            message, remedy="Restore the row or the master key, or store the secret again."
        ) from error


def associated_data(place: Mapping[str, str]) -> bytes:
    """Return a place as bytes that no other place has: sorted, each part led by its length."""
    parts = [part.encode() for name in sorted(place) for part in (name, place[name])]
    return b"motadata-1" + b"".join(len(part).to_bytes(4, "big") + part for part in parts)
