"""What a cache key is made of; the one place that checks it and that spells it out for a server.

A key is structural, (tenant, namespace, key), so nothing in one part can reach into another. On a
server, where a key is text, the tenant and the namespace are identifiers and the rest is a digest:

| name | holds |
|---|---|
| `cache:{<tenant>}:<generation>:<namespace>:<digest>` | a value |
| `cache:{<tenant>}:generation` | the first half of the generation; without it all is forgotten |
| `cache:{<tenant>}:namespace:<namespace>` | the second half, for one namespace |
| `cache:{<tenant>}:tag:<digest>` | what values with the tag must bear to count |
| `cache-index:{<tenant>}:<namespace>` | the keys of a namespace, for patterns |
| `cache-lock:{<tenant>}:<generation>:<namespace>:<digest>` | who computes the value |
| `cache-ledger:{<tenant>}`, `cache-total:{<tenant>}` | what the tenant holds, for its quota |

The braces are Redis Cluster's hash tag: all keys of a tenant are on one server.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Final, NamedTuple

from motadata.core.errors import CacheError, ConfigurationError
from motadata.core.tenancy import Identifier, TenantId


MOST_TAGS: Final = 64
"""How many tags one value may carry."""

# No control characters, and no lone surrogates, which have no UTF-8 form.
_KEY: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,512}")


class CacheKey(NamedTuple):
    """A checked key; built by `cache_key` and by nothing else."""

    tenant: str
    namespace: str
    key: str


def cache_key(tenant_id: str, namespace: str, key: str) -> CacheKey:
    """Check the three parts of a key and put them together.

    Raises:
        InvalidIdentifierError: The tenant or the namespace breaks the grammar of identifiers.
        CacheError: The key is not 1 to 512 characters without control characters.
    """
    check_text(key, "key")
    try:
        tenant, space = _identifiers(tenant_id, namespace)
    except TypeError:
        # Not hashable, so surely no identifier: the check says so in our words.
        tenant, space = _identifiers.__wrapped__(tenant_id, namespace)
    return CacheKey(tenant, space, key)


@lru_cache(maxsize=4096)
def _identifiers(tenant_id: str, namespace: str) -> tuple[str, str]:
    return str(TenantId(tenant_id)), str(Identifier(namespace))


def check_text(text: object, noun: str) -> None:
    """Check a key or a pattern of keys.

    Raises:
        CacheError: It is not 1 to 512 characters without control characters.
    """
    if not isinstance(text, str) or _KEY.fullmatch(text) is None:
        shown = repr(text[:80]) if isinstance(text, str) else f"of type {type(text).__name__}"
        message = f"The cache {noun} {shown} is not valid."
        remedy = "Use 1 to 512 characters without control characters; hash what is longer."
        raise CacheError(message, remedy=remedy)


def check_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Check the tags of one value, and leave out repeated ones.

    Raises:
        CacheError: They are one text, more than 64, or one of them breaks the rule of keys.
    """
    if isinstance(tags, str | bytes):
        message = f"The cache tags are one text of {len(tags)} characters."
        raise CacheError(message, remedy="Pass a list of tags.")
    checked = tuple(dict.fromkeys(tags))
    for tag in checked:
        check_text(tag, "tag")
    if len(checked) > MOST_TAGS:
        message = f"A cached value carries {len(checked)} tags; at most {MOST_TAGS} are allowed."
        raise CacheError(message, remedy="Tag it with something that they have in common.")
    return checked


def check_ttl(ttl: object) -> None:
    """Check a time to live.

    Raises:
        CacheError: It is not a positive, finite number of seconds.
    """
    if not (isinstance(ttl, int | float) and ttl > 0 and math.isfinite(ttl)):
        message = f"The cache TTL {ttl!r} is not valid."
        raise CacheError(message, remedy="Give a positive number of seconds.")


def check_jitter(jitter: float) -> None:
    """Check by which share lives are shortened.

    Raises:
        ConfigurationError: It is none.
    """
    if not 0.0 <= jitter < 1.0:
        message = f"jitter={jitter!r} is no share of a life."
        raise ConfigurationError(message, remedy="Give a number from 0 to less than 1.")


def compile_glob(pattern: str) -> re.Pattern[str]:
    """Turn a glob of `*` and `?` into an expression; every other character stands for itself.

    Each star gives back nothing once what follows it has matched, so that no pattern, however many
    stars it has, takes more than length of pattern times length of key.

    Raises:
        CacheError: The pattern is no valid key.
    """
    check_text(pattern, "pattern")
    head, *tail = (re.escape(part).replace(r"\?", ".") for part in pattern.split("*"))
    if not tail:
        return re.compile(rf"(?s:{head})\Z")
    middle = "".join(rf"(?>.*?{part})" for part in tail[:-1] if part)
    return re.compile(rf"(?s:{head}{middle}.*{tail[-1]})\Z")


@dataclass(frozen=True, slots=True, eq=False)
class RedisNames:
    """How the keys of one tenant's namespace are spelled on a server.

    A value's key is `head`, the generation, `tail` and the digest of the key; its lock's is the
    same with `lock_head`. Scripts put only the generation between them.
    """

    tenant: str
    namespace: str
    generation_key: str
    namespace_key: str
    index_key: str
    ledger_key: str
    total_key: str
    head: str
    lock_head: str
    tail: str

    def value_key(self, generation: str, key_digest: str) -> str:
        """Spell the key of a value."""
        return f"{self.head}{generation}{self.tail}{key_digest}"


@lru_cache(maxsize=4096)
def redis_names(tenant: str, namespace: str) -> RedisNames:
    """Spell the keys of a namespace; both parts are identifiers that have been checked."""
    tag = f"{{{TenantId(tenant)}}}"
    space = Identifier(namespace)
    return RedisNames(
        tenant=tenant,
        namespace=namespace,
        generation_key=f"cache:{tag}:generation",
        namespace_key=f"cache:{tag}:namespace:{space}",
        index_key=f"cache-index:{tag}:{space}",
        ledger_key=f"cache-ledger:{tag}",
        total_key=f"cache-total:{tag}",
        head=f"cache:{tag}:",
        lock_head=f"cache-lock:{tag}:",
        tail=f":{space}:",
    )


def tag_key(tenant: str, tag_digest: str) -> str:
    """Spell the key of a tag."""
    return f"cache:{{{TenantId(tenant)}}}:tag:{tag_digest}"


def digest(text: str) -> str:
    """Return what stands for a key or a tag on a server: 32 hexadecimal digits."""
    return blake2b(text.encode(), digest_size=16).hexdigest()


TRACKED_PREFIX: Final = "cache:{"
"""What the names of all keys begin with whose change may concern a copy of a value."""


@dataclass(frozen=True, slots=True)
class ChangedKey:
    """What the change of a server's key concerns: the narrowest part that is not None.

    Attributes:
        tenant: Whose it is.
        namespace: All values of this namespace, or the one with the digest.
        digest: One value.
        tag_digest: All values of the tenant with this tag.
    """

    tenant: str
    namespace: str | None = None
    digest: str | None = None
    tag_digest: str | None = None


_CHANGED: Final = re.compile(
    r"cache:\{([A-Za-z0-9_-]{1,64})\}:"
    r"(?:generation|namespace:([A-Za-z0-9_-]{1,64})|tag:([0-9a-f]{32})"
    r"|[0-9a-f]+\.[0-9a-f]+:([A-Za-z0-9_-]{1,64}):([0-9a-f]{32}))"
)


def read_changed_key(name: str) -> ChangedKey | None:
    """Take a server's key apart again; None for one that is none of ours."""
    found = _CHANGED.fullmatch(name)
    if found is None:
        return None
    tenant, namespace, tag_digest, space, key_digest = found.groups()
    return ChangedKey(tenant, namespace or space, key_digest, tag_digest)
