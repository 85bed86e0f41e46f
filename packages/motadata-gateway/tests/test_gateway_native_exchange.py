"""What stands on the wire between the native lane and a server: heads, bodies, connections."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest

from motadata.core.errors import ConfigurationError, ProviderError, SDKError, ValidationError
from motadata.gateway import HttpLimits
from motadata.gateway._native._http import HttpClient


GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
HEADERS = {"Authorization": "Bearer k", "Content-Type": "application/json"}
LARGE = json.dumps({"text": "x" * 3 * 2**20}).encode()


@dataclass
class Server:
    """A server that writes the bytes it is told, and keeps what it was sent."""

    url: str = ""
    replies: list[bytes] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    connections: int = 0
    arrived: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                reply = self.replies.pop(0) if self.replies else GOOD
                if not reply.startswith((b"HTTP/1.1 2", b"HTTP/1.1 1", b"nonsense")) and reply:
                    writer.write(reply)  # without reading what it refuses
                    await writer.drain()
                    continue
                self.bodies.append(await reader.readexactly(length(head)))
                self.arrived.put_nowait(self.bodies[-1])
                writer.write(reply)
                await writer.drain()
                if not reply:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


def length(head: bytes) -> int:
    return int(fields(head)["content-length"])


def fields(head: bytes) -> dict[str, str]:
    lines = head.decode().split("\r\n")[1:-2]
    return {name.lower(): text for name, _, text in (line.partition(": ") for line in lines)}


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    server = Server()
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, limit=2**23)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1"
    try:
        yield server
    finally:
        listener.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as one:
        yield one


@pytest.fixture
async def client(server: Server) -> AsyncIterator[HttpClient]:
    one = HttpClient(server.url, HttpLimits(connections=2))
    yield one
    await one.aclose()


async def posted(client: HttpClient, body: bytes = b"{}", **headers: str) -> bytes:
    return await client.post("/chat", body, {**HEADERS, **headers}, model="a/b")


async def test_a_request_reads_like_one_of_aiohttp(client: HttpClient, server: Server):
    await posted(client, b'{"a": "\xc3\xa9"}')
    async with aiohttp.ClientSession() as session:
        data = b'{"a": "\xc3\xa9"}'
        async with session.post(f"{server.url}/chat", data=data, headers=HEADERS) as response:
            await response.read()

    ours, theirs = server.heads
    assert ours.split(b"\r\n")[0] == theirs.split(b"\r\n")[0] == b"POST /v1/chat HTTP/1.1"
    assert fields(ours) == fields(theirs)
    assert server.bodies == [data, data]


async def test_a_header_cannot_bring_another_one_along(client: HttpClient, server: Server):
    for text in ("a\r\nX-Tenant: globex", "a\nb", "a\rb", "a\0b"):
        with pytest.raises(ConfigurationError, match="line break"):
            await posted(client, tracestate=text)

    assert server.heads == []
    assert await posted(client, tracestate="a=b") == b"{}"


async def test_hints_ahead_of_an_answer_are_passed_over(client: HttpClient, server: Server):
    hints = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    server.replies = [hints + GOOD]

    assert await posted(client) == b"{}"
    assert await posted(client) == b"{}"
    assert server.connections == 1


async def test_a_large_request_arrives_whole(client: HttpClient, server: Server):
    assert await posted(client, LARGE) == b"{}"
    assert await posted(client) == b"{}"

    assert server.bodies == [LARGE, b"{}"]


async def test_a_refusal_of_a_large_request_is_heard_before_it_is_sent(
    client: HttpClient, server: Server
):
    server.replies = [b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\n{}"]

    with pytest.raises(ValidationError):
        await posted(client, LARGE)


async def test_a_connection_that_broke_off_serves_nobody_again(client: HttpClient, server: Server):
    server.replies = [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", b"nonsense\r\n\r\n"]

    async def fails() -> type[SDKError]:
        with pytest.raises(ProviderError) as caught:
            async with asyncio.timeout(5):
                await posted(client)
        return type(caught.value)

    assert await fails() is ProviderError
    await server.arrived.get()
    waiting = asyncio.create_task(posted(client))
    await server.arrived.get()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await fails() is ProviderError
    assert await posted(client) == b"{}"
    assert server.connections == len(("broken", "cut", "nonsense", "good"))


async def test_a_proxy_that_sees_the_request_gets_its_password(monkeypatch: pytest.MonkeyPatch):
    async with serving() as proxy:
        address = proxy.url.removesuffix("/v1").replace("http://", "http://user:secret@")
        monkeypatch.setenv("http_proxy", address)
        monkeypatch.delenv("no_proxy", raising=False)
        client = HttpClient("http://models.invalid/v1", HttpLimits())
        for _ in range(2):
            await posted(client)
        await client.aclose()

    assert [head.split(b"\r\n")[0] for head in proxy.heads] == [
        b"POST http://models.invalid/v1/chat HTTP/1.1"
    ] * 2
    assert {fields(head)["proxy-authorization"] for head in proxy.heads} == {
        "Basic dXNlcjpzZWNyZXQ="
    }


async def test_a_proxy_that_is_a_tunnel_gets_its_password_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
):
    async with serving() as proxy:
        proxy.replies = [b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"]
        address = proxy.url.removesuffix("/v1").replace("http://", "http://user:secret@")
        monkeypatch.setenv("https_proxy", address)
        monkeypatch.delenv("no_proxy", raising=False)
        client = HttpClient("https://models.invalid/v1", HttpLimits())
        with pytest.raises(ProviderError):
            await posted(client)
        await client.aclose()

    (head,) = proxy.heads
    assert head.startswith(b"CONNECT models.invalid:443 HTTP/1.1")
    assert fields(head)["proxy-authorization"] == "Basic dXNlcjpzZWNyZXQ="
    assert "authorization" not in fields(head)
