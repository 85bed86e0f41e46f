"""Who an operation is for: validated tenant identifiers and the scope that carries one.

Every public operation of the SDK takes `tenant_id: str | None = None` and resolves it with
`resolve_tenant`: an explicit tenant wins, None means the tenant of the surrounding `tenant_scope`,
and no tenant at all is an error, never a default.

    with tenant_scope("acme"):
        await knowledge_base.query("How do I reset a VPN token?")

The scope lives in a context variable, so it follows `await`, tasks and `asyncio.to_thread`.
"""

from __future__ import annotations

import re
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Final, Self

from motadata.core.errors import InvalidIdentifierError, TenantRequiredError


_GRAMMAR: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_SHOWN: Final = 80
"""How many characters of a bad identifier an error message repeats."""
_MOST_KNOWN: Final = 4_096


class Identifier(str):
    """A name that is one token in SQL, Redis keys, NATS subjects, metric labels and paths.

    The grammar is `[A-Za-z0-9_-]{1,64}`, case-sensitive. What has been built from identifiers
    cannot be split in two ways: no separator (`:`, `.`, `/`) and no wildcard (`*`, `>`) fits in.

    Raises:
        InvalidIdentifierError: The value is not a string of that grammar.
    """

    __slots__ = ()

    def __new__(cls, value: str) -> Self:
        """Check `value` and return it as an identifier."""
        if type(value) is cls:
            return value
        # Callers without a type checker pass what they like.
        given: object = value
        if not isinstance(given, str) or _GRAMMAR.fullmatch(given) is None:
            shown = repr(given)
            shown = shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "…"
            message = f"{shown} is not a valid {cls._noun()}."
            raise InvalidIdentifierError(
                message, remedy="Use 1 to 64 characters out of A-Z, a-z, 0-9, '_' and '-'."
            )
        return super().__new__(cls, value)

    @classmethod
    def _noun(cls) -> str:
        return "identifier"


class TenantId(Identifier):
    """The identifier of a tenant."""

    __slots__ = ()

    @classmethod
    def _noun(cls) -> str:
        return "tenant id"


_current: ContextVar[TenantId | None] = ContextVar("motadata_tenant", default=None)


class tenant_scope:  # noqa: N801 - used like a function, as contextlib's own are
    """Make `tenant_id` the tenant of every operation in the block that names none itself.

    `with tenant_scope("acme") as tenant:` gives it as a `TenantId`. Scopes nest; leaving one
    restores the one around it. Each is entered once.

    Raises:
        InvalidIdentifierError: `tenant_id` breaks the grammar; raised on entering.
    """

    __slots__ = ("_tenant", "_token")

    _token: Token[TenantId | None]

    def __init__(self, tenant_id: str) -> None:
        self._tenant = tenant_id

    def __enter__(self) -> TenantId:
        """Begin the scope."""
        tenant = TenantId(self._tenant)
        self._token = _current.set(tenant)
        return tenant

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it: the tenant is the one around it again."""
        _current.reset(self._token)


def current_tenant() -> TenantId | None:
    """Return the tenant of the surrounding scope, or None outside every scope."""
    return _current.get()


def resolve_tenant(tenant_id: str | None) -> TenantId:
    """Return the tenant of an operation: the given one, else the scope's.

    Raises:
        TenantRequiredError: Neither is there.
        InvalidIdentifierError: The given one breaks the grammar.
    """
    if type(tenant_id) is TenantId:
        return tenant_id  # checked when it was made; one call of a model comes here a dozen times
    if type(tenant_id) is str:
        return _known.get(tenant_id) or _learnt(tenant_id)
    if tenant_id is not None:
        return TenantId(tenant_id)
    tenant = _current.get()
    if tenant is None:
        message = "This operation has no tenant."
        raise TenantRequiredError(
            message, remedy="Pass tenant_id=… or call it within tenant_scope(…)."
        )
    return tenant


# Most calls are of a few tenants, each named by a text that was checked before.
_known: dict[str, TenantId] = {}


def _learnt(tenant_id: str) -> TenantId:
    tenant = TenantId(tenant_id)
    if len(_known) >= _MOST_KNOWN:
        _known.clear()
    _known[str(tenant)] = tenant
    return tenant
