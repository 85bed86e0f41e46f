"""A platform writes its calls down when it is told where."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

from motadata.core import create_platform
from motadata.core.protocols import Database
from motadata.core.testing.plugin import DatabaseDsns
from motadata.gateway.component import COMPONENT
from motadata.gateway.usage import UsageReports


def environment(dsns: DatabaseDsns, **more: str) -> dict[str, str]:
    return {"MOTADATA_DATABASE_URL": dsns.runtime, **more}


async def test_folder_in_the_environment_switches_the_usage_log_on(
    database_dsns: DatabaseDsns, database: Database, tmp_path: Path
) -> None:
    tenant = f"acme-{uuid4().hex}"
    variables = environment(database_dsns, MOTADATA_GATEWAY_USAGE_DIRECTORY=str(tmp_path / "u"))
    async with create_platform(variables, components=[COMPONENT]) as platform:
        answer = await platform.gateway.generate_async("Hello", tenant_id=tenant)

    [found] = await UsageReports(database).usage_by(tenant_id=tenant)
    assert (found.calls, found.unpriced) == (1, 0)
    assert (bool(answer.call_id), answer.usage.cost_usd) == (True, 0)


async def test_without_a_folder_calls_have_no_id(database_dsns: DatabaseDsns) -> None:
    async with create_platform(environment(database_dsns), components=[COMPONENT]) as platform:
        answer = await platform.gateway.generate_async("Hello", tenant_id="acme")

    assert answer.call_id == ""
