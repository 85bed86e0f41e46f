"""`motadata keys`: make, list and revoke API keys."""

from __future__ import annotations

from typing import Final, cast

from rich.table import Table
from rich.text import Text

from motadata.api.cli._output import errors_console, print_json, printable, results_console
from motadata.api.cli._run import EXIT_FAILED, EXIT_OK, open_platform
from motadata.api.keys import ApiKeyInfo, ApiKeys
from motadata.core.platform import Platform
from motadata.core.tenancy import TenantId


_PAGE: Final = 1000


def keys_of(platform: Platform) -> ApiKeys:
    """Return the API keys of a platform."""
    return cast("ApiKeys", platform.component("api_keys"))


async def create(label: str, *, tenant: str, as_json: bool) -> int:
    """Make a key and print it, on standard output nothing else.

    Raises:
        SDKError: It could not be stored.
    """
    tenant_id = TenantId(tenant)
    async with open_platform(quiet=as_json) as platform:
        created = await keys_of(platform).create(label, tenant_id=tenant_id)
    if as_json:
        print_json({**created.info.to_dict(), "key": created.key})
        return EXIT_OK
    errors_console().print(
        f"A key of {tenant_id}, id {created.info.key_id}. It is shown this once: keep it safe."
    )
    results_console().print(created.key)
    return EXIT_OK


async def show(*, tenant: str, as_json: bool) -> int:
    """List a tenant's keys.

    Raises:
        SDKError: The database does not answer.
    """
    tenant_id = TenantId(tenant)
    async with open_platform(quiet=as_json) as platform:
        found = await _all_keys(keys_of(platform), tenant_id)
    if as_json:
        print_json({"keys": [info.to_dict() for info in found]})
        return EXIT_OK
    table = Table(box=None, pad_edge=False)
    for title in ("id", "label", "created", "state"):
        table.add_column(title, overflow="fold")
    for info in found:
        state = f"revoked {info.revoked_at:%Y-%m-%d %H:%M}" if info.revoked_at else "valid"
        created = f"{info.created_at:%Y-%m-%d %H:%M}"
        cells = (info.key_id, printable(info.label), created, state)
        table.add_row(*map(Text, cells), style="dim" if info.revoked_at else None)
    if found:
        results_console().print(table)
    else:
        results_console().print(f"{tenant_id} has no keys.")
    return EXIT_OK


async def revoke(key_id: str, *, tenant: str, as_json: bool) -> int:
    """Revoke a key.

    Raises:
        SDKError: The database does not answer.
    """
    tenant_id = TenantId(tenant)
    async with open_platform(quiet=as_json) as platform:
        found = await keys_of(platform).revoke(key_id, tenant_id=tenant_id)
    if as_json:
        print_json({"key_id": key_id, "revoked": found})
    elif found:
        results_console().print(f"The key {key_id} does not open any more.")
    else:
        errors_console().print(
            f"{tenant_id} has no key {key_id!r}. 'motadata keys list' shows all."
        )
    return EXIT_OK if found else EXIT_FAILED


async def _all_keys(keys: ApiKeys, tenant_id: TenantId) -> list[ApiKeyInfo]:
    found: list[ApiKeyInfo] = []
    while True:
        after = found[-1].key_id if found else None
        page = await keys.list_keys(limit=_PAGE, after=after, tenant_id=tenant_id)
        found += page
        if len(page) < _PAGE:
            return found
