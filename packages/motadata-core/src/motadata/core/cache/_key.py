"""What a cache key is made of; the one place that checks it.

A key is structural, (tenant, namespace, key), so nothing in one part can reach into another.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple

from motadata.core.errors import CacheError
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
