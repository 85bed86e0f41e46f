"""What an API key looks like: `mtd.<tenant>.<secret><checksum>`.

The tenant stands in the key, so that it is looked up within that tenant's rows and no table has to
be readable without one. The secret is 32 random bytes in base64url. The checksum is the CRC-32 of
all that stands before it, six characters in base 62: a mistyped or cut key is refused without a
look at the database, and a secret scanner can tell a key from noise.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import string
import zlib
from dataclasses import dataclass, field
from typing import Final

from motadata.core.errors import AuthenticationError
from motadata.core.tenancy import TenantId


KEY_PREFIX: Final = "mtd"
_SECRET_BYTES: Final = 32
_DIGITS: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_CHECKSUM_LENGTH: Final = 6
_GRAMMAR: Final = re.compile(
    rf"{KEY_PREFIX}\.([A-Za-z0-9_-]{{1,64}})\.([A-Za-z0-9_-]{{43}})([A-Za-z0-9]{{6}})", re.ASCII
)


@dataclass(frozen=True, slots=True)
class ParsedKey:
    """A well-formed key; whether it is a valid one only the store knows.

    Attributes:
        tenant_id: The tenant that the key names.
        digest: SHA-256 of the whole key, the form in which it is stored.
    """

    tenant_id: TenantId
    digest: bytes = field(repr=False)


def generate_key(tenant_id: TenantId) -> str:
    """Return a fresh key for a tenant; nobody can recover it later."""
    secret = base64.urlsafe_b64encode(os.urandom(_SECRET_BYTES)).decode().rstrip("=")
    body = f"{KEY_PREFIX}.{tenant_id}.{secret}"
    return body + _checksum(body)


def parse_key(text: str) -> ParsedKey:
    """Read a key without asking any store.

    Raises:
        AuthenticationError: It is malformed or its checksum does not fit.
    """
    match = _GRAMMAR.fullmatch(text)
    if match is None or _checksum(text[:-_CHECKSUM_LENGTH]) != match[3]:
        raise authentication_failed()
    return ParsedKey(TenantId(match[1]), hashlib.sha256(text.encode()).digest())


def authentication_failed() -> AuthenticationError:
    """Return the one error for every key that does not open: it never says why not."""
    return AuthenticationError(
        "The API key is missing or not valid.",
        remedy="Send it as 'Authorization: Bearer mtd.…'; 'motadata keys create' makes one.",
    )


def _checksum(text: str) -> str:
    number = zlib.crc32(text.encode())
    digits = []
    for _ in range(_CHECKSUM_LENGTH):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
