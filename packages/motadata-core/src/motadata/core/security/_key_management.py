"""Who wraps data keys: the protocol that a cloud's KMS is put behind, and one with local keys."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol, Self

from pydantic import Field, SecretBytes, SecretStr

from motadata.core.errors import ConfigurationError, SecretUnreadableError
from motadata.core.security._encryption import KEY_LENGTH, require_cryptography, seal, unseal
from motadata.core.settings import Settings


_VERSION: Final = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
_KEYS_VARIABLE: Final = "MOTADATA_SECURITY_MASTER_KEYS"
_REMEDY: Final = f'Write {_KEYS_VARIABLE} as {{"1": "<base64 of 32 random bytes>"}}.'


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A data key as it may be stored.

    Attributes:
        version: Which master key wrapped it; 1 to 256 characters.
        data: The encrypted key, at most 8 KiB; opaque to all but the key management.
    """

    version: str
    data: bytes = field(repr=False)


class KeyManagement(Protocol):
    """Wraps data keys with master keys that it does not hand out.

    It is called from many tasks at once. What it raises besides `SecretError` reaches the caller as
    a `KeyManagementError`, which is retryable.
    """

    async def current_version(self) -> str:
        """Return the version of the master key that `wrap` uses now."""
        ...

    async def wrap(self, data_key: bytes, *, context: Mapping[str, str]) -> WrappedKey:
        """Encrypt a data key with the current master key, bound to `context`."""
        ...

    async def unwrap(self, wrapped: WrappedKey, *, context: Mapping[str, str]) -> bytes:
        """Decrypt a data key with the master key that wrapped it.

        Raises:
            SecretUnreadableError: That master key is gone, or `context` is not the one of `wrap`.
        """
        ...


class SecuritySettings(Settings, prefix="MOTADATA_SECURITY_"):
    """Master keys of `LocalKeyManagement`.

    Attributes:
        master_keys: Base64 of 32 random bytes by version, a whole number above 0.
        current_version: The version to wrap with; None means the highest. When several processes
            share a database, give all of them the new key first, and switch afterwards.
    """

    master_keys: dict[str, SecretStr] = Field(default_factory=dict)
    current_version: str | None = None


class LocalKeyManagement:
    """Master keys in the memory of this process, by version.

    A key that was replaced stays here until no stored secret names its version any more; see
    `SecretStore.key_versions`.

    Args:
        master_keys: 32 random bytes by version, a whole number above 0.
        current_version: The version to wrap with; None means the highest.

    Raises:
        MissingExtraError: The extra `security` is not installed.
        ConfigurationError: There is no key, one has another length, or a version does not fit.
    """

    __slots__ = ("_current", "_keys")

    def __init__(
        self, master_keys: Mapping[str, SecretBytes], *, current_version: str | None = None
    ) -> None:
        require_cryptography()
        if not master_keys:
            message = "There is no master key to encrypt secrets with."
            raise ConfigurationError(message, remedy=_REMEDY)
        for version, key in master_keys.items():
            _check(version, key)
        self._keys = dict(master_keys)
        self._current = max(self._keys, key=int) if current_version is None else current_version
        if self._current not in self._keys:
            message = f"There is no master key of the current version {self._current!r}."
            raise ConfigurationError(
                message, remedy=f"Known versions are: {', '.join(sorted(self._keys, key=int))}."
            )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Read the keys from MOTADATA_SECURITY_MASTER_KEYS.

        Raises:
            ConfigurationError: The variable is absent, or does not hold keys.
        """
        settings = SecuritySettings.from_environment(environment)
        keys = {version: _decode(version, key) for version, key in settings.master_keys.items()}
        return cls(keys, current_version=settings.current_version)

    def __repr__(self) -> str:
        """Show the versions, never a key."""
        return f"LocalKeyManagement(versions={sorted(self._keys, key=int)})"

    async def current_version(self) -> str:
        """Return the version of the master key that `wrap` uses."""
        return self._current

    async def wrap(self, data_key: bytes, *, context: Mapping[str, str]) -> WrappedKey:
        """Encrypt a data key with the current master key, bound to context and key version."""
        key = self._keys[self._current].get_secret_value()
        return WrappedKey(
            self._current, seal(key, data_key, place=_place(context, version=self._current))
        )

    async def unwrap(self, wrapped: WrappedKey, *, context: Mapping[str, str]) -> bytes:
        """Decrypt a data key with the master key that wrapped it.

        Raises:
            SecretUnreadableError: That key is not here, or `context` is not the one of `wrap`.
        """
        key = self._keys.get(wrapped.version)
        if key is None:
            message = f"The master key of version {wrapped.version!r} is not here."
            raise SecretUnreadableError(
                message, remedy=f"Put it back into {_KEYS_VARIABLE}, or store the secret again."
            )
        place = _place(context, version=wrapped.version)
        return unseal(key.get_secret_value(), wrapped.data, place=place)


def _place(context: Mapping[str, str], *, version: str) -> dict[str, str]:
    return {**context, "key_version": version}


def _check(version: str, key: SecretBytes) -> None:
    if _VERSION.fullmatch(version) is None:
        message = f"{version!r} is no version of a master key."
        raise ConfigurationError(message, remedy="Count them: 1, 2, 3.")
    length = len(key.get_secret_value())
    if length != KEY_LENGTH:
        message = f"The master key of version {version!r} has {length} bytes."
        raise ConfigurationError(message, remedy=f"A key has {KEY_LENGTH} random bytes.")


def _decode(version: str, key: SecretStr) -> SecretBytes:
    try:
        return SecretBytes(base64.b64decode(key.get_secret_value(), validate=True))
    except (binascii.Error, ValueError):
        # Without the cause: its message may quote characters of the key.
        message = f"The master key of version {version!r} is not valid base64."
        raise ConfigurationError(message, remedy=_REMEDY) from None
