"""How files get in: sizes, outcomes, progress, fairness, and what is left behind: nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import httpx
import pytest

from motadata.core.errors import ConnectionError as DatabaseConnectionError


if TYPE_CHECKING:
    from conftest import ServeFakes, Service

File = tuple[str, tuple[str, str | bytes]]


def file(name: str, content: str | bytes = "Some text.") -> File:
    return ("files", (name, content))


async def send(
    service: Service, *files: File, key: str = "acme-key", **headers: str
) -> httpx.Response:
    return await service.client.post(
        "/v1/documents", files=list(files), headers={**service.headers(key), **headers}
    )


async def test_several_files_each_have_their_outcome(service: Service):
    response = await send(
        service, file("a.md"), file("empty.md", ""), file("b.bin", b"\0\1"), file("c.md", "More.")
    )

    files = response.json()["files"]
    assert response.status_code == 207
    assert [f["source"] for f in files] == ["a.md", "empty.md", "b.bin", "c.md"]
    assert [f["outcome"] for f in files] == ["created", "failed", "failed", "created"]
    assert [(f["error"] or {}).get("code") for f in files] == [
        *(None, "empty_file", "unsupported_format", None)
    ]
    assert files[1]["error"]["remedy"]


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (file("empty.md", ""), 422, "empty_file"),
        (file("x.bin", b"\0"), 415, "unsupported_format"),
    ],
)
async def test_only_file_that_fails_gives_its_own_status(
    service: Service, sent: File, status: int, code: str
):
    response = await send(service, sent)

    assert (response.status_code, response.json()["error"]["code"]) == (status, code)


async def test_several_files_are_given_up_when_the_database_is_away(service: Service):
    service.ingestion.failure = DatabaseConnectionError("The database is away.")

    response = await send(service, file("a.md"), file("b.md"), file("c.md"))

    assert response.status_code == 503
    assert len(service.ingestion.folders) == 1


async def test_same_file_again_changes_nothing(service: Service):
    first = await send(service, file("a.md"))
    again = await send(service, file("a.md"))

    outcomes = [r.json()["files"][0]["outcome"] for r in (first, again)]
    assert outcomes == ["created", "unchanged"]


async def test_file_larger_than_memory_is_meant_to_hold_gets_in_by_way_of_the_disk(
    service: Service,
):
    text = "A sentence of a long document. " * 100_000

    response = await send(service, file("long.md", text))

    document_id = response.json()["files"][0]["document"]["document_id"]
    opened = await service.client.get(f"/v1/documents/{document_id}", headers=service.headers())
    assert opened.json()["text"] == text


async def test_temporary_files_are_gone_afterwards(service: Service):
    await send(service, file("a.md"), file("empty.md", ""))
    await send(service, file("empty.md", ""), accept="application/x-ndjson")

    assert len(service.ingestion.folders) == 3
    assert not any(folder.exists() for folder in service.ingestion.folders)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("guide.md", "guide.md"),
        ("folder/inner/guide.md", "folder/inner/guide.md"),
        ("../../etc/passwd", "etc/passwd"),
        ("docs\\guide.md", "docs/guide.md"),
        ("Überblick ✓.md", "Überblick ✓.md"),
        ("x" * 1100 + ".md", "x" * 997 + ".md"),
    ],
)
async def test_source_is_the_file_name_made_harmless(service: Service, name: str, source: str):
    response = await send(service, file(name))

    assert response.json()["files"][0]["source"] == source


class TestSize:
    async def test_announced_above_the_limit_is_refused_before_it_is_sent(
        self, serve_fakes: ServeFakes
    ):
        async with serve_fakes(max_upload_bytes=1000) as service:
            response = await send(service, file("big.md", "x" * 2000))

        assert (response.status_code, response.json()["error"]["code"]) == (
            413,
            "request_too_large",
        )

    async def test_not_announced_is_counted_on_the_way(self, serve_fakes: ServeFakes):
        async def endless() -> AsyncIterator[bytes]:
            yield b'--b\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
            for _ in range(1000):
                yield b"x" * 1000

        async with serve_fakes(max_upload_bytes=50_000) as service:
            response = await service.client.post(
                "/v1/documents",
                content=endless(),
                headers={**service.headers(), "content-type": "multipart/form-data; boundary=b"},
            )

            assert response.status_code == 413
            assert service.ingestion.folders == []

    @pytest.mark.parametrize("path", ["/v1/query", "/v1/documents"])
    async def test_of_json_is_limited_too(self, serve_fakes: ServeFakes, path: str):
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(100):
                yield b" " * 100

        async with serve_fakes(max_query_bytes=1000, max_document_bytes=1000) as service:
            headers = {**service.headers(), "content-type": "application/json"}
            announced = await service.client.post(path, content=b" " * 2000, headers=headers)
            counted = await service.client.post(path, content=chunks(), headers=headers)

        assert [announced.status_code, counted.status_code] == [413, 413]

    async def test_of_several_files_is_limited_in_number(self, serve_fakes: ServeFakes):
        async with serve_fakes(max_files=2) as service:
            response = await send(service, file("a"), file("b"), file("c"))

            assert response.status_code == 400
            assert service.ingestion.folders == []


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("multipart/form-data; boundary=b", b"--b--\r\n", 422),
        ("multipart/form-data; boundary=b", b"nonsense", 400),
        ("multipart/form-data", b"", 400),
        ("text/plain", b"hello", 415),
        ("", b"hello", 415),
    ],
)
async def test_body_without_a_file_is_refused(
    service: Service, content_type: str, body: bytes, status: int
):
    response = await service.client.post(
        "/v1/documents",
        content=body,
        headers={**service.headers(), "content-type": content_type},
    )

    assert response.status_code == status
    assert response.json()["error"]["remedy"]


class TestProgress:
    async def lines(self, response: httpx.Response) -> list[dict[str, object]]:
        assert response.headers["content-type"] == "application/x-ndjson"
        return [json.loads(line) for line in response.text.splitlines()]

    async def test_is_told_line_by_line_and_ends_with_the_plain_answer(self, service: Service):
        response = await send(
            service, file("a.md"), file("empty.md", ""), accept="application/x-ndjson"
        )

        *steps, last = await self.lines(response)
        assert [(s["source"], s["stage"], s["position"], s["total"]) for s in steps] == [
            ("a.md", "loading", 1, 2),
            ("a.md", "storing", 1, 2),
            ("a.md", "done", 1, 2),
            ("empty.md", "loading", 2, 2),
        ]
        assert last["type"] == "done"
        assert [f["outcome"] for f in last["files"]] == ["created", "failed"]
        assert last["trace_id"] == response.headers["x-trace-id"]

    async def test_of_the_only_file_that_fails_ends_with_the_error(self, service: Service):
        response = await send(service, file("empty.md", ""), accept="application/x-ndjson")

        last = (await self.lines(response))[-1]
        assert (last["type"], last["error"]["code"]) == ("error", "empty_file")

    async def test_arrives_while_the_work_goes_on(self, service: Service):
        service.ingestion.gate = asyncio.Event()
        request = service.client.build_request(
            "POST",
            "/v1/documents",
            files=[file("a.md")],
            headers={**service.headers(), "accept": "application/x-ndjson"},
        )

        response = await service.client.send(request, stream=True)
        lines = response.aiter_lines()
        first = json.loads(await anext(lines))
        service.ingestion.gate.set()
        rest = [json.loads(line) async for line in lines]

        assert first["stage"] == "loading"
        assert rest[-1]["type"] == "done"

    async def test_that_nobody_reads_any_more_stops_the_work(self, service: Service):
        service.ingestion.gate = asyncio.Event()
        request = service.client.build_request(
            "POST",
            "/v1/documents",
            files=[file("a.md")],
            headers={**service.headers(), "accept": "application/x-ndjson"},
        )
        response = await service.client.send(request, stream=True)
        await anext(response.aiter_lines())

        await response.aclose()

        await asyncio.wait_for(service.ingestion.cancelled.wait(), 10)


async def test_one_tenants_uploads_leave_room_for_the_others(serve_fakes: ServeFakes):
    async with serve_fakes(max_uploads_per_tenant=1, max_uploads=5) as service:
        service.ingestion.gate = asyncio.Event()
        running = asyncio.create_task(send(service, file("a.md")))
        await asyncio.wait_for(service.ingestion.entered.wait(), 10)

        refused = await send(service, file("b.md"))
        service.ingestion.entered.clear()
        other = asyncio.create_task(send(service, file("c.md"), key="globex-key"))
        await asyncio.wait_for(service.ingestion.entered.wait(), 10)
        service.ingestion.gate.set()
        done = await asyncio.gather(running, other)
        later = await send(service, file("b.md"))

    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limited")
    assert refused.headers["retry-after"]
    assert [response.status_code for response in (*done, later)] == [200, 200, 200]
