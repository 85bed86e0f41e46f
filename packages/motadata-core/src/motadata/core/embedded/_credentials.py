"""The passwords of an embedded server's roles, in a file that only its owner reads."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

from motadata.core.errors import ConfigurationError


ADMINISTRATOR: Final = "postgres"
OWNER: Final = "motadata_owner"
RUNTIME: Final = "motadata_app"
DATABASE: Final = "motadata"


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """One password a role."""

    administrator: str
    owner: str
    runtime: str

    @classmethod
    def fresh(cls) -> Self:
        """Return new random ones; hexadecimal, so that they need quoting nowhere."""
        return cls(*(secrets.token_hex(24) for _ in range(3)))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return those in a file.

        Raises:
            ConfigurationError: It is missing or malformed.
        """
        try:
            stored = json.loads(path.read_text("utf-8"))
            return cls(stored["administrator"], stored["owner"], stored["runtime"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            message = f"The passwords of the embedded server in {str(path)!r} cannot be read."
            raise ConfigurationError(
                message, remedy="Restore the file, or move its directory away to start anew."
            ) from error

    def write(self, path: Path) -> None:
        """Store them, readable by the owner of the file alone."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(self), file)
            file.flush()
            os.fsync(file.fileno())
