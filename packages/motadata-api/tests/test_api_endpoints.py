"""What the endpoints do, over real HTTP, for two tenants."""

from __future__ import annotations

import json

import pytest


VPN = "The VPN token is reset in the self-service portal. Printers are on floor two."
QUESTION = {"query": "How is the VPN token reset?"}


async def put(service, name: str, text: str, key: str = "acme-key"):
    response = await service.client.post(
        "/v1/documents", files={"files": (name, text)}, headers=service.headers(key)
    )
    assert response.status_code == 200, response.text
    return response.json()["files"][0]["document"]["document_id"]


async def test_query_answers_with_citation_that_points_into_the_document(service):
    document_id = await put(service, "vpn.md", VPN)

    response = await service.client.post("/v1/query", json=QUESTION, headers=service.headers())

    body = response.json()
    citation = body["citations"][0]
    assert response.status_code == 200
    assert body["answered"] is True
    assert body["mode"] == "rag"
    assert "[1]" in body["answer"]
    assert set(citation) == {
        *("document_id", "title", "source", "version", "page", "heading"),
        *("start", "end", "quote", "score"),
    }
    assert citation["document_id"] == document_id
    assert VPN[citation["start"] : citation["end"]] == citation["quote"]
    assert body["trace_id"] == response.headers["x-trace-id"]
