"""Who we are to a NATS server, in the ways that it knows."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from pydantic import SecretStr

from motadata.core.errors import ConfigurationError, MissingExtraError


@dataclass(frozen=True, slots=True)
class NatsCredentials:
    """Who the SDK is to the server; give what the server asks for and nothing else.

    Attributes:
        token: A token.
        user: A user, with its password.
        password: The user's password.
        nkey_seed: The seed of an nkey, `SU…`.
        credentials_file: A `.creds` file with a JWT and its nkey.
        tls: For a server that is reached by TLS; holds the client's certificate if one is wanted.
    """

    token: SecretStr | None = None
    user: str | None = None
    password: SecretStr | None = None
    nkey_seed: SecretStr | None = None
    credentials_file: Path | None = None
    tls: ssl.SSLContext | None = None

    def options(self) -> dict[str, object]:
        """Return the arguments of the driver.

        Raises:
            ConfigurationError: More than one way is given, or half of one.
            MissingExtraError: Keys are asked for and the package that signs is not installed.
        """
        ways = {
            "token": self.token,
            "user": self.user,
            "nkey_seed": self.nkey_seed,
            "credentials_file": self.credentials_file,
        }
        given = [name for name, value in ways.items() if value is not None]
        if len(given) > 1 or (self.user is None) != (self.password is None):
            message = f"The NATS credentials do not go together: {', '.join(given) or 'password'}."
            raise ConfigurationError(message, remedy="Give one way; a user needs a password.")
        if self.nkey_seed is not None or self.credentials_file is not None:
            _require_nkeys()
        return {
            "token": _reveal(self.token),
            "user": self.user,
            "password": _reveal(self.password),
            "nkeys_seed_str": _reveal(self.nkey_seed),
            "user_credentials": None
            if self.credentials_file is None
            else str(self.credentials_file),
            "tls": self.tls,
        }


def _require_nkeys() -> None:
    if find_spec("nkeys") is None:
        raise MissingExtraError("nkeys", extra="nats", distribution="motadata-core")


def _reveal(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()
