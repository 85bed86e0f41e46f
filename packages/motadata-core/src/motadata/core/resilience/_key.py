"""How what instances share is named on a server; the one place that spells these keys.

| name | holds |
|---|---|
| `limit:{<tenant>}:<limiter>` | the tokens of one tenant, and who leased some |
| `limit-total:{<limiter>}` | the tokens that all tenants share |
| `breaker:{<tenant>}:<breakers>:<digest of the dependency>` | outcomes, and the opening |
| `retry-budget:{<tenant>}:<budget>` | the retries that a tenant has left |

The braces are Redis Cluster's hash tag. A tenant and a name are identifiers, so nothing in one part
can reach into another; a dependency is any text, so a digest stands for it.
"""

from __future__ import annotations

from hashlib import blake2b

from motadata.core.tenancy import Identifier, TenantId


def limit_key(tenant: TenantId, name: Identifier) -> str:
    """Spell the key of one tenant's tokens."""
    return f"limit:{{{tenant}}}:{name}"


def total_limit_key(name: Identifier) -> str:
    """Spell the key of the tokens that all tenants share."""
    return f"limit-total:{{{name}}}"


def breaker_key(tenant: TenantId, name: Identifier, dependency: str) -> str:
    """Spell the key of a tenant's breaker."""
    digest = blake2b(dependency.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return f"breaker:{{{tenant}}}:{name}:{digest}"


def budget_key(tenant: TenantId, name: Identifier) -> str:
    """Spell the key of a tenant's retries."""
    return f"retry-budget:{{{tenant}}}:{name}"
