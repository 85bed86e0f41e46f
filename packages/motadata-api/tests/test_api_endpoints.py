"""What the endpoints do, over real HTTP, for two tenants."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pytest

from motadata.core.errors import (
    CircuitOpenError,
    ConnectionError,  # noqa: A004 - the SDK's own
    DeadlineExceededError,
    OverloadError,
    QueryError,
    RateLimitError,
    RetrievalError,
    SDKError,
)
from motadata.core.observability import configure_observability


if TYPE_CHECKING:
    from conftest import ServeFakes, Service, StubAgent

VPN = "The VPN token is reset in the self-service portal. Printers are on floor two."
QUESTION = {"query": "How is the VPN token reset?"}
TRACE = "0af7651916cd43dd8448eb211c80319c"


async def put(service: Service, name: str, text: str, key: str = "acme-key") -> str:
    response = await service.client.post(
        "/v1/documents", files={"files": (name, text)}, headers=service.headers(key)
    )
    assert response.status_code == 200, response.text
    document_id: str = response.json()["files"][0]["document"]["document_id"]
    return document_id


def problem(response: httpx.Response) -> dict[str, object]:
    body = response.json()
    assert set(body) == {"error"}
    error: dict[str, object] = body["error"]
    assert set(error) == {"code", "message", "remedy", "retryable", "trace_id"}
    assert error["trace_id"] == response.headers["x-trace-id"]
    return error


class TestQuery:
    async def test_answers_with_citation_that_points_into_the_document(self, service: Service):
        document_id = await put(service, "vpn.md", VPN)

        response = await service.client.post("/v1/query", json=QUESTION, headers=service.headers())

        body = response.json()
        citation = body["citations"][0]
        assert response.status_code == 200
        assert (body["answered"], body["mode"]) == (True, "rag")
        assert "[1]" in body["answer"]
        assert set(citation) == {
            *("document_id", "title", "source", "version", "page", "heading"),
            *("start", "end", "quote", "score"),
        }
        assert citation["document_id"] == document_id
        assert VPN[citation["start"] : citation["end"]] == citation["quote"]
        assert body["trace_id"] == response.headers["x-trace-id"]

    async def test_of_one_tenant_never_answers_from_the_other(self, service: Service):
        await put(service, "vpn.md", VPN)

        response = await service.client.post(
            "/v1/query", json=QUESTION, headers=service.headers("globex-key")
        )

        assert response.json()["answered"] is False
        assert response.json()["citations"] == []

    async def test_narrowed_to_documents_answers_from_these_only(self, service: Service):
        await put(service, "vpn.md", VPN)
        other = await put(service, "other.md", "The token of the car park is yellow.")

        response = await service.client.post(
            "/v1/query", json={**QUESTION, "document_ids": [other]}, headers=service.headers()
        )

        assert {c["document_id"] for c in response.json()["citations"]} == {other}

    @pytest.mark.parametrize("mode", ["agent", "both"])
    async def test_without_an_agent_says_that_the_mode_needs_one(self, service: Service, mode: str):
        response = await service.client.post(
            "/v1/query", json={**QUESTION, "mode": mode}, headers=service.headers()
        )

        assert response.status_code == 501
        assert problem(response)["code"] == "mode_not_available"
        assert problem(response)["remedy"]

    @pytest.mark.parametrize(
        ("mode", "question", "used"),
        [
            ("auto", "How is the VPN token reset?", "rag"),
            ("auto", "Zebra crossing?", "agent"),
            ("agent", "How is the VPN token reset?", "agent"),
            ("both", "How is the VPN token reset?", "both"),
            ("rag", "Zebra crossing?", "rag"),
        ],
    )
    async def test_with_an_agent_says_who_answered(
        self, serve_fakes: ServeFakes, agent: StubAgent, mode: str, question: str, used: str
    ):
        async with serve_fakes(extra={"agent": agent}) as service:
            await put(service, "vpn.md", VPN)

            response = await service.client.post(
                "/v1/query", json={"query": question, "mode": mode}, headers=service.headers()
            )

        body = response.json()
        assert body["mode"] == used
        assert (body["answer"] == "The agent's words.") == (used != "rag")
        assert bool(body["citations"]) == ("VPN" in question and used != "agent")
        assert {tenant for tenant, _ in agent.tasks} <= {"acme"}
        assert all(("context" in given) == (used == "both") for _, given in agent.tasks)

    @pytest.mark.parametrize(
        ("body", "status", "code", "named"),
        [
            (b"{", 400, "malformed_json", "JSON"),
            (b"", 422, "invalid_request", "body"),
            (b"[]", 422, "invalid_request", "body"),
            (b"{}", 422, "invalid_request", "query"),
            (b'{"query": 5}', 422, "invalid_request", "query"),
            (b'{"query": "  "}', 422, "invalid_request", "query"),
            (b'{"query": "\\u0000?"}', 422, "invalid_request", "query"),
            (b'{"query": "\\ud800?"}', 422, "invalid_request", "query"),
            (b'{"query": "x", "mode": "guess"}', 422, "invalid_request", "mode"),
            (b'{"query": "x", "limit": 0}', 422, "invalid_request", "limit"),
            (b'{"query": "x", "limit": 1e99}', 422, "invalid_request", "limit"),
            (b'{"query": "x", "document_ids": ["a/b"]}', 422, "invalid_request", "document_ids"),
            (b'{"query": "x", "tenant_id": "globex"}', 422, "invalid_request", "tenant_id"),
            (b'{"query": "' + b"x" * 9000 + b'"}', 422, "invalid_request", "query"),
            (b"[" * 100_000, 400, "bad_request", "body"),
        ],
    )
    async def test_that_does_not_fit_is_refused_by_name(
        self, service: Service, body: bytes, status: int, code: str, named: str
    ):
        response = await service.client.post(
            "/v1/query",
            content=body,
            headers={**service.headers(), "content-type": "application/json"},
        )

        assert (response.status_code, problem(response)["code"]) == (status, code)
        assert named in str(problem(response)["message"])

    async def test_that_does_not_fit_is_not_quoted_back(self, service: Service):
        response = await service.client.post(
            "/v1/query", json={"query": ["hunter2"], "mode": "hunter2"}, headers=service.headers()
        )

        assert "hunter2" not in response.text


class TestErrors:
    @pytest.mark.parametrize(
        ("error", "status"),
        [
            (RetrievalError("The query is odd.", remedy="Ask another."), 422),
            (RetrievalError("Busy.", retryable=True), 503),
            (RateLimitError("Too fast.", retry_after=7.2), 429),
            (CircuitOpenError("Left alone."), 503),
            (ConnectionError("Gone."), 503),
            (OverloadError("Full."), 503),
            (DeadlineExceededError("Too late."), 504),
        ],
    )
    async def test_have_their_status_and_say_when_to_retry(
        self, service: Service, error: SDKError, status: int
    ):
        service.knowledge_base.failure = error

        response = await service.client.post("/v1/query", json=QUESTION, headers=service.headers())

        assert (response.status_code, problem(response)["code"]) == (status, error.code)
        assert problem(response)["retryable"] is error.retryable
        assert ("retry-after" in response.headers) == error.retryable
        if isinstance(error, RateLimitError):
            assert response.headers["retry-after"] == "8"

    @pytest.mark.parametrize("error", [RuntimeError("secret 42"), QueryError("secret 42")])
    async def test_of_ours_tell_their_trace_id_and_nothing_else(
        self, service: Service, error: Exception
    ):
        service.knowledge_base.failure = error

        response = await service.client.post("/v1/query", json=QUESTION, headers=service.headers())

        assert response.status_code == 500
        assert problem(response)["trace_id"]
        assert "secret" not in response.text

    async def test_cover_unknown_paths_and_methods(self, service: Service):
        unknown = await service.client.get("/v1/nothing", headers=service.headers())
        method = await service.client.put("/v1/query", headers=service.headers())

        assert (unknown.status_code, problem(unknown)["code"]) == (404, "not_found")
        assert (method.status_code, problem(method)["code"]) == (405, "method_not_allowed")
        assert "POST" in method.headers["allow"]

    async def test_continue_the_trace_of_the_caller(self, service: Service):
        response = await service.client.post(
            "/v1/query",
            json={},
            headers={**service.headers(), "traceparent": f"00-{TRACE}-b7ad6b7169203331-01"},
        )

        assert problem(response)["trace_id"] == TRACE

    async def test_of_two_traces_continue_neither(self, service: Service):
        parent = f"00-{TRACE}-b7ad6b7169203331-01"
        token = service.headers()["authorization"]

        response = await service.client.post(
            "/v1/query",
            json={},
            headers=[("authorization", token), ("traceparent", parent), ("traceparent", parent)],
        )

        assert response.status_code == 422
        assert problem(response)["trace_id"] != TRACE


class TestAuthentication:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("POST", "/v1/query"),
            ("POST", "/v1/documents"),
            ("GET", "/v1/documents"),
            ("GET", "/v1/documents/some"),
            ("DELETE", "/v1/documents/some"),
            ("GET", "/v1/nothing"),
        ],
    )
    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": "Basic acme-key"},
            {"authorization": "acme-key"},
            {"authorization": "Bearer " + "x" * 5000},
        ],
        ids=["none", "wrong", "basic", "bare", "huge"],
    )
    async def test_is_needed_by_every_endpoint_of_a_tenant(
        self, service: Service, method: str, path: str, headers: dict[str, str]
    ):
        response = await service.client.request(method, path, headers=headers)

        assert response.status_code == 401
        assert problem(response)["code"] == "authentication_failed"
        assert response.headers["www-authenticate"].startswith("Bearer")

    async def test_comes_before_the_body_is_looked_at(self, service: Service):
        response = await service.client.post("/v1/query", content=b"{")

        assert response.status_code == 401

    async def test_with_two_keys_at_once_is_refused(self, service: Service):
        response = await service.client.get(
            "/v1/documents",
            headers=[("authorization", "Bearer acme-key"), ("authorization", "Bearer globex-key")],
        )

        assert response.status_code == 401


class TestDocuments:
    async def test_as_json_are_stored_and_found(self, service: Service):
        sent = {"text": VPN, "source": "wiki/vpn", "title": "VPN", "metadata": {"team": "net"}}

        stored = await service.client.post("/v1/documents", json=sent, headers=service.headers())
        again = await service.client.post("/v1/documents", json=sent, headers=service.headers())

        file = stored.json()["files"][0]
        assert (stored.status_code, file["outcome"], file["source"]) == (200, "created", "wiki/vpn")
        assert again.json()["files"][0]["outcome"] == "unchanged"
        opened = await service.client.get(
            f"/v1/documents/{file['document']['document_id']}", headers=service.headers()
        )
        assert opened.json()["text"] == VPN
        assert opened.json()["metadata"] == {"team": "net"}

    async def test_that_changed_can_be_opened_in_each_version(self, service: Service):
        first = {"text": "Old text.", "source": "s", "document_id": "doc"}
        second = {"text": "New text.", "source": "s", "document_id": "doc"}
        for sent in (first, second):
            await service.client.post("/v1/documents", json=sent, headers=service.headers())

        texts = [
            (
                await service.client.get(f"/v1/documents/doc{query}", headers=service.headers())
            ).json()["text"]
            for query in ("?version=1", "?version=2", "")
        ]

        assert texts == ["Old text.", "New text.", "New text."]

    @pytest.mark.parametrize(
        ("body", "named"),
        [
            ({"source": "s"}, "text"),
            ({"text": " ", "source": "s"}, "text"),
            ({"text": "x"}, "source"),
            ({"text": "a\0b", "source": "s"}, "text"),
            ({"text": "x", "source": "s", "document_id": "../etc"}, "document_id"),
            ({"text": "x", "source": "s", "metadata": {"a": 1}}, "metadata"),
            ({"text": "x", "source": "s", "secret": 1}, "secret"),
        ],
    )
    async def test_as_json_that_do_not_fit_are_refused_by_name(
        self, service: Service, body: dict[str, object], named: str
    ):
        response = await service.client.post("/v1/documents", json=body, headers=service.headers())

        assert response.status_code == 422
        assert named in str(problem(response)["message"])

    async def test_are_listed_page_by_page(self, service: Service):
        ids = sorted([await put(service, f"{n}.md", f"Text {n}.") for n in range(5)])

        seen: list[str] = []
        after: str | None = None
        for _ in range(3):
            page = await service.client.get(
                "/v1/documents",
                params={"limit": 2, **({"after": after} if after else {})},
                headers=service.headers(),
            )
            seen += [document["document_id"] for document in page.json()["documents"]]
            after = page.json()["next"]

        assert seen == ids
        assert after is None

    @pytest.mark.parametrize("query", ["limit=0", "limit=501", "limit=x", "after=a%00b"])
    async def test_are_not_listed_by_odd_parameters(self, service: Service, query: str):
        response = await service.client.get(f"/v1/documents?{query}", headers=service.headers())

        assert response.status_code == 422
        assert problem(response)["code"] == "invalid_request"

    async def test_of_another_tenant_are_not_there_by_any_method(self, service: Service):
        document_id = await put(service, "vpn.md", VPN)
        theirs = service.headers("globex-key")

        listed = await service.client.get("/v1/documents", headers=theirs)
        opened = await service.client.get(f"/v1/documents/{document_id}", headers=theirs)
        removed = await service.client.delete(f"/v1/documents/{document_id}", headers=theirs)
        asked = await service.client.post(
            "/v1/query", json={**QUESTION, "document_ids": [document_id]}, headers=theirs
        )
        mine = await service.client.get(f"/v1/documents/{document_id}", headers=service.headers())

        assert listed.json()["documents"] == []
        assert (opened.status_code, removed.status_code) == (404, 404)
        assert problem(opened)["code"] == "document_not_found"
        assert asked.json()["answered"] is False
        assert mine.status_code == 200

    async def test_that_are_removed_are_gone(self, service: Service):
        document_id = await put(service, "vpn.md", VPN)
        path = f"/v1/documents/{document_id}"

        removed = await service.client.delete(path, headers=service.headers())
        again = await service.client.delete(path, headers=service.headers())

        assert (removed.status_code, removed.content) == (204, b"")
        assert again.status_code == 404

    @pytest.mark.parametrize("odd", ["a.b", "%00", "x" * 65, "a%2Fb"])
    async def test_that_no_id_can_name_are_not_found(self, service: Service, odd: str):
        response = await service.client.get(f"/v1/documents/{odd}", headers=service.headers())

        assert response.status_code == 404


class TestHealth:
    async def test_needs_no_key_and_tells_states_only(self, service: Service):
        response = await service.client.get("/healthz")

        assert response.status_code == 200
        assert response.json()["status"] == "ok"
        assert response.json()["components"]["knowledge_base"] == "ok"
        assert "secret" not in response.text

    async def test_is_503_when_a_component_is_down(self, serve_fakes: ServeFakes):
        async with serve_fakes() as service:
            service.ingestion.health_status = "down"

            response = await service.client.get("/healthz")

        assert (response.status_code, response.json()["status"]) == (503, "down")


class TestComposition:
    async def test_endpoints_of_components_that_are_not_installed_are_absent(
        self, serve_fakes: ServeFakes
    ):
        async with serve_fakes(without=("knowledge_base", "ingestion")) as service:
            described = (await service.client.get("/openapi.json")).json()
            response = await service.client.post(
                "/v1/query", json=QUESTION, headers=service.headers()
            )

        assert set(described["paths"]) == {"/healthz"}
        assert response.status_code == 404

    async def test_openapi_describes_every_endpoint_and_the_key(self, service: Service):
        described = (await service.client.get("/openapi.json")).json()

        assert set(described["paths"]) == {
            *("/healthz", "/v1/query", "/v1/documents", "/v1/documents/{document_id}")
        }
        assert described["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"

    async def test_files_without_an_ingestion_component_name_the_remedy(
        self, serve_fakes: ServeFakes
    ):
        async with serve_fakes(without=("ingestion",)) as service:
            response = await service.client.post(
                "/v1/documents", files={"files": ("a.md", "x")}, headers=service.headers()
            )

        assert response.status_code == 503
        assert "motadata-ingest" in str(problem(response)["remedy"])


async def test_caller_that_leaves_stops_the_work(service: Service):
    service.ingestion.gate = asyncio.Event()
    sending = asyncio.create_task(put(service, "vpn.md", VPN))
    await asyncio.wait_for(service.ingestion.entered.wait(), 10)

    sending.cancel()

    await asyncio.wait_for(service.ingestion.cancelled.wait(), 10)
    assert (await service.client.get("/healthz")).status_code == 200


async def test_request_that_takes_too_long_is_stopped(serve_fakes: ServeFakes):
    async with serve_fakes(upload_timeout=0.2) as service:
        service.ingestion.gate = asyncio.Event()

        response = await service.client.post(
            "/v1/documents", files={"files": ("a.md", "x")}, headers=service.headers()
        )

        assert (response.status_code, problem(response)["code"]) == (504, "request_timeout")
        assert service.ingestion.cancelled.is_set()


async def test_connection_that_sends_half_a_request_is_no_trouble_to_others(service: Service):
    host, port = service.address.removeprefix("http://").split(":")
    half = b"POST /v1/query HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer acme-key\r\n"
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(half + b"Content-Length: 50\r\n\r\n{")

    response = await service.client.get("/v1/documents", headers=service.headers())

    assert response.status_code == 200


async def test_log_line_of_a_request_names_tenant_and_trace_but_no_text(
    service: Service, capsys: pytest.CaptureFixture[str]
):
    configure_observability(level="INFO", json=True)
    try:
        response = await service.client.post(
            "/v1/query", json={"query": "hunter2 secret?"}, headers=service.headers()
        )
    finally:
        configure_observability(level="WARNING")

    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    served = next(line for line in lines if line["event"] == "request_served")
    assert (served["route"], served["tenant"]) == ("/v1/query", "acme")
    assert served["trace_id"] == response.headers["x-trace-id"]
    assert "hunter2" not in json.dumps(lines)


def test_importing_the_package_imports_no_web_framework():
    code = "import sys, motadata.api; sys.exit('fastapi' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
