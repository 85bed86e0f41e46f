"""`motadata doctor`: checks what the SDK stands on, each finding with its remedy."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel
from rich.text import Text

from motadata.api._problems import operator_problem
from motadata.api.cli._output import print_json, results_console
from motadata.api.cli._run import EXIT_FAILED, EXIT_OK
from motadata.api.settings import ApiSettings
from motadata.core.errors import SDKError
from motadata.core.models import Health
from motadata.core.platform import Platform, create_platform
from motadata.core.tenancy import TenantId


Status = Literal["ok", "warn", "fail"]

_OPEN_SECONDS: Final = 120.0
_LOW_BYTES: Final = 1024**3
_TOO_LOW_BYTES: Final = 100 * 1024**2
_NEEDED: Final = (
    "motadata-core",
    "motadata-api",
    "motadata-gateway",
    "motadata-rag",
    "motadata-ingest",
)
_OPTIONAL: Final = ("motadata-agents", "motadata-ml")
_STYLES: Final[dict[Status, str]] = {"ok": "green", "warn": "yellow", "fail": "red"}
_OF_HEALTH: Final[dict[str, Status]] = {"ok": "ok", "degraded": "warn", "down": "fail"}


class Check(BaseModel):
    """What was looked at, how it is, and what to do about it."""

    name: str
    status: Status
    detail: str
    remedy: str | None = None


class DoctorReport(BaseModel):
    """All checks, in the order in which they were made."""

    checks: list[Check]


async def examine(*, tenant: str, as_json: bool) -> int:
    """Make every check, print each as it is made, and fail when one of them did.

    Raises:
        InvalidIdentifierError: The tenant breaks the grammar.
    """
    tenant_id = TenantId(tenant)
    console = results_console()
    checks: list[Check] = []
    async for check in _checks(tenant_id):
        checks.append(check)
        if not as_json:
            console.print(_line(check))
            if check.remedy and check.status != "ok":
                console.print(Text(f"        {check.remedy}", style="dim"))
    if as_json:
        print_json(DoctorReport(checks=checks))
    return EXIT_FAILED if any(check.status == "fail" for check in checks) else EXIT_OK


async def _checks(tenant_id: TenantId) -> AsyncIterator[Check]:
    yield _python()
    for name in (*_NEEDED, *_OPTIONAL):
        yield _distribution(name)
    yield _settings()
    yield await asyncio.to_thread(_disk)
    try:
        platform = create_platform()
    except SDKError as error:
        yield _failed("components", error)
        return
    try:
        async with asyncio.timeout(_OPEN_SECONDS):
            await platform.__aenter__()
    except SDKError as error:
        yield _failed("components", error)
        return
    except TimeoutError:
        detail = f"The components did not open within {_OPEN_SECONDS:g} s."
        remedy = "Run motadata --debug doctor and see which one is last."
        yield Check(name="components", status="fail", detail=detail, remedy=remedy)
        return
    try:
        yield Check(name="components", status="ok", detail=", ".join(platform.roles))
        for check in await _database(platform, tenant_id):
            yield check
        health = await platform.health()
        for name, state in health.components.items():
            yield _health(name, state)
    finally:
        await platform.__aexit__(None, None, None)


def _python() -> Check:
    shown = ".".join(map(str, sys.version_info[:3]))
    status: Status = "ok" if sys.version_info >= (3, 11) else "fail"
    return Check(name="python", status=status, detail=shown, remedy="Use Python 3.11 or newer.")


def _distribution(name: str) -> Check:
    try:
        return Check(name=name, status="ok", detail=version(name))
    except PackageNotFoundError:
        status: Status = "warn" if name in _NEEDED else "ok"
        remedy = f"pip install {name}"
        return Check(name=name, status=status, detail="not installed", remedy=remedy)


def _settings() -> Check:
    try:
        ApiSettings.from_environment()
    except SDKError as error:
        return _failed("settings", error)
    # Names only: a value may be a secret.
    names = sorted(name for name in os.environ if name.startswith("MOTADATA_"))
    return Check(name="settings", status="ok", detail=", ".join(names) or "all at their defaults")


def _disk() -> Check:
    folder = Path(os.environ.get("MOTADATA_DATA_DIRECTORY") or ".motadata").absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    status: Status = "ok" if free > _LOW_BYTES else "warn" if free > _TOO_LOW_BYTES else "fail"
    detail = f"{free / 1024**3:.1f} GiB free at {folder}"
    remedy = "Free some space, or set MOTADATA_DATA_DIRECTORY to another disk."
    return Check(name="disk", status=status, detail=detail, remedy=remedy)


async def _database(platform: Platform, tenant_id: TenantId) -> list[Check]:
    try:
        rows = await platform.database.execute_query(_ROLE_AND_VERSIONS, tenant_id=tenant_id)
        tables = await platform.database.execute_query(_TABLES, tenant_id=tenant_id)
    except SDKError as error:
        return [_failed("database", error)]
    facts = rows[0]
    bypasses = bool(facts["bypasses"])
    open_tables = [str(row["name"]) for row in tables if not row["isolated"]]
    return [
        Check(
            name="database server",
            status="ok",
            detail=f"PostgreSQL {facts['server']}, pgvector {facts['vector']}",
        ),
        Check(
            name="database role",
            status="fail" if bypasses else "ok",
            detail=f"{facts['role']}, {'can' if bypasses else 'cannot'} bypass row-level security",
            remedy="Run the SDK as a role without SUPERUSER and BYPASSRLS.",
        ),
        Check(
            name="tenant isolation",
            status="fail" if open_tables else "ok",
            detail=f"{len(tables) - len(open_tables)} of {len(tables)} tables forced per tenant",
            remedy=f"Not forced: {', '.join(open_tables)}. Call motadata.isolate() for each.",
        ),
        Check(
            name="migrations",
            status="ok" if tables else "fail",
            detail=f"applied for {len(platform.migrations)} components",
            remedy="Set MOTADATA_DATABASE_OWNER_URL once, so that they can be applied.",
        ),
    ]


_ROLE_AND_VERSIONS: Final = """
select current_user::text as role,
       (select rolsuper or rolbypassrls from pg_roles where rolname = current_user) as bypasses,
       current_setting('server_version') as server,
       (select extversion from pg_extension where extname = 'vector') as vector
"""
_TABLES: Final = """
select c.relname::text as name, c.relrowsecurity and c.relforcerowsecurity as isolated
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'motadata' and c.relkind in ('r', 'p')
order by c.relname
"""


def _health(name: str, state: Health) -> Check:
    detail = state.detail or "serves"
    return Check(name=f"health: {name}", status=_OF_HEALTH[state.status], detail=detail)


def _failed(name: str, error: SDKError) -> Check:
    problem = operator_problem(error)
    return Check(name=name, status="fail", detail=problem.message, remedy=problem.remedy)


def _line(check: Check) -> Text:
    line = Text(f"{check.status:<5}", style=_STYLES[check.status])
    line.append(f" {check.name}: ", style="bold")
    line.append(check.detail, style="default")
    return line
