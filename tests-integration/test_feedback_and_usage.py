"""From an answer over HTTP to what people say of it and what it cost, through every component."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx

from motadata.api import ApiKeys, create_app
from motadata.core.models import Document
from motadata.core.platform import create_platform


LOCKERS = Document("A locker key is replaced in 2 days.", "lockers.md", title="Lockers")


async def test_answer_is_judged_and_billed_for_its_tenant_alone(
    environment: dict[str, str], tmp_path: Path
) -> None:
    settings = environment | {"MOTADATA_GATEWAY_USAGE_DIRECTORY": str(tmp_path / "usage")}
    async with create_platform(settings) as platform:
        await platform.knowledge_base.ingest_document(LOCKERS, tenant_id="judging")
        transport = httpx.ASGITransport(app=create_app(platform))
        keys = ApiKeys(platform.database)
        mine, other = [
            httpx.AsyncClient(
                transport=transport,
                base_url="http://sdk",
                headers={"authorization": f"Bearer {(await keys.create('t', tenant_id=name)).key}"},
            )
            for name in ("judging", "bystander")
        ]
        async with mine, other:
            asked = {"query": "When is a locker key replaced?"}
            answer = (await mine.post("/v1/query", json=asked)).json()
            said = {"call_id": answer["call_id"], "signal": {"kind": "vote", "useful": True}}
            for client in (mine, other):
                assert (await client.post("/v1/feedback", json=said)).status_code == 201

            insights = await _linked(mine)
            theirs = (await other.get("/v1/feedback/insights")).json()
            usage = (await mine.get("/v1/usage", params={"by": "model"})).json()["usage"]
            none = (await other.get("/v1/usage")).json()["usage"]

    assert [(each["model"], each["approvals"]) for each in insights] == [(answer["model"], 1)]
    # The id of another tenant's call is worth nothing.
    assert (theirs["insights"], theirs["unlinked"]) == ([], 1)
    assert answer["model"] in {each["group"]["model"] for each in usage}
    assert none == []


async def _linked(client: httpx.AsyncClient) -> list[dict[str, object]]:
    """Return the insights once the usage log has written the call down."""
    async with asyncio.timeout(20):
        while True:
            found: list[dict[str, object]]
            found = (await client.get("/v1/feedback/insights")).json()["insights"]
            if found:
                return found
            await asyncio.sleep(0.1)
