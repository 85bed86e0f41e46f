"""The process behind `OpenAIServer`: `python -m motadata.core.testing._openai_server_main`.

HTTP/1.1 on asyncio streams, as little of it as the clients need, so that delays, broken connections
and the client's going away are exactly what the script says. Ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
from asyncio import StreamReader, StreamWriter
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import asdict
from http import HTTPStatus
from types import ModuleType
from typing import Any, Final

import motadata.core.testing._anthropic_payloads as anthropic
import motadata.core.testing._gemini_payloads as gemini
import motadata.core.testing._openai_payloads as openai
from motadata.core.testing.openai_server import READY, Reply


_UNSCRIPTED: Final[Mapping[str, Any]] = asdict(Reply())


class Script:
    """What the server was told, and what it was asked."""

    def __init__(self) -> None:
        self.changed = asyncio.Condition()
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.queued: dict[str | None, deque[Mapping[str, Any]]] = defaultdict(deque)
        self.constant: dict[str | None, Mapping[str, Any]] = {}
        self.requests: list[dict[str, Any]] = []

    def add(self, script: Mapping[str, Any]) -> None:
        """Take in replies."""
        if script["kind"] == "always":
            self.constant[script["model"]] = script["replies"][0]
        else:
            self.queued[script["model"]].extend(script["replies"])

    def reply_to(self, model: str | None) -> Mapping[str, Any]:
        """Return the next reply: those of the model first, queued ones before constant ones."""
        for key in (model, None):
            if self.queued[key]:
                return self.queued[key].popleft()
        return self.constant.get(model) or self.constant.get(None) or _UNSCRIPTED

    async def disconnected(self, record: dict[str, Any]) -> None:
        """Note that a client went early."""
        async with self.changed:
            record["disconnected"] = True
            self.changed.notify_all()

    async def first_disconnect(self, timeout: float) -> list[dict[str, Any]]:
        """Return the first request whose client went early, in a list; empty if none did."""

        def gone() -> list[dict[str, Any]]:
            return [record for record in self.requests if record["disconnected"]][:1]

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout), self.changed:
                await self.changed.wait_for(gone)
        return gone()


class Connection:
    """One client; its requests come one after the other."""

    def __init__(self, script: Script, reader: StreamReader, writer: StreamWriter) -> None:
        self._script = script
        self._reader = reader
        self._writer = writer
        self._ahead = b""

    async def serve(self) -> None:
        """Answer until the client goes, or the script breaks the connection."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self._one():
                pass
        self._writer.close()

    async def _one(self) -> bool:
        head = self._ahead + await self._reader.readuntil(b"\r\n\r\n")
        self._ahead = b""
        request_line, *lines = head.decode("latin-1").strip().split("\r\n")
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        value = json.loads(body) if body else {}
        path = request_line.split()[1]
        if path.startswith("/_control"):
            await self._control(path.removeprefix("/_control"), value)
            return True
        return await self._watched(path, headers, value)

    async def _control(self, path: str, value: Mapping[str, Any]) -> None:
        answer: object = {}
        if path == "/script":
            self._script.add(value)
        elif path == "/reset":
            self._script.reset()
        elif path == "/wait":
            answer = await self._script.first_disconnect(value["timeout"])
        else:
            answer = self._script.requests
        await self._send(200, {}, json.dumps(answer), cut=None)

    async def _watched(self, path: str, headers: dict[str, str], value: dict[str, Any]) -> bool:
        """Answer while watching whether the client stays; say whether to go on."""
        record = {"path": path, "headers": headers, "body": value, "disconnected": False}
        self._script.requests.append(record)
        reply = self._script.reply_to(_model_of(path, value))
        answer = asyncio.create_task(self._answer(path, value, reply))
        sign = asyncio.create_task(self._next_byte())
        await asyncio.wait({answer, sign}, return_when=asyncio.FIRST_COMPLETED)
        if sign.done() and not sign.result() and not answer.done():
            answer.cancel()
            await asyncio.wait({answer})
            await self._script.disconnected(record)
            return False
        try:
            go_on = await answer
        except ConnectionError:
            sign.cancel()
            await self._script.disconnected(record)
            return False
        sign.cancel()
        await asyncio.wait({sign})
        # A byte read by then is the first of the next request.
        self._ahead = b"" if sign.cancelled() else sign.result()
        return go_on

    async def _next_byte(self) -> bytes:
        """Wait for what the client sends next; nothing when it went, in whatever manner."""
        try:
            return await self._reader.read(1)
        except ConnectionError:  # it went with bytes unread, which resets the connection
            return b""

    async def _answer(self, path: str, value: dict[str, Any], reply: Mapping[str, Any]) -> bool:
        await asyncio.sleep(reply["delay"])
        if reply["hang"] and not reply["chunks"] and not reply["events"]:
            await asyncio.Event().wait()
        shapes = _shapes(path)
        if reply["raw"] is not None:
            return await self._raw(reply)
        if reply["body"] is None and reply["status"] >= HTTPStatus.BAD_REQUEST:
            body = shapes.error_body(reply["status"])
        elif reply["body"] is not None:
            body = reply["body"]
        elif path.endswith("/embeddings"):
            body = openai.embedding_body(value, reply)
        elif value.get("stream") or ":stream" in path:
            return await self._stream(shapes.chat_events(value, reply), reply, shapes.FIRST_TEXT)
        else:
            body = shapes.chat_body(value, reply)
        await self._send(reply["status"], reply["headers"], body, cut=reply["cut"])
        return reply["cut"] is None

    async def _raw(self, reply: Mapping[str, Any]) -> bool:
        """Send bytes as they are, each piece by itself; after a cut the connection breaks."""
        self._head(200, {"Content-Type": "text/event-stream", **reply["headers"]}, None)
        for piece in reply["raw"][: reply["cut"]]:
            data = piece.encode("latin-1")
            self._writer.write(b"%x\r\n%s\r\n" % (len(data), data))
            await self._writer.drain()
            await asyncio.sleep(reply["chunk_delay"])
        if reply["cut"] is not None:
            return False
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()
        return True

    async def _stream(self, events: list[str], reply: Mapping[str, Any], first: int) -> bool:
        self._head(200, {**reply["headers"], "Content-Type": "text/event-stream"}, None)
        if reply["hang"]:
            events = events[: len(reply["events"] or ()) or first + len(reply["chunks"])]
        for event in events[: reply["cut"]]:
            payload = f"{_name_of(event)}data: {event}\n\n".encode()
            self._writer.write(b"%x\r\n%s\r\n" % (len(payload), payload))
            await self._writer.drain()
            await asyncio.sleep(reply["chunk_delay"])
        if reply["hang"]:
            await asyncio.Event().wait()
        if reply["cut"] is not None:
            return False
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()
        return True

    async def _send(
        self, status: int, headers: Mapping[str, str], body: str, *, cut: int | None
    ) -> None:
        data = body.encode()
        self._head(status, {"Content-Type": "application/json", **headers}, len(data))
        self._writer.write(data[:cut])
        await self._writer.drain()

    def _head(self, status: int, headers: Mapping[str, str], length: int | None) -> None:
        framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
        lines = [f"HTTP/1.1 {status} {_phrase(status)}", framing]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))


def _name_of(event: str) -> str:
    """Return the line that names an event: Anthropic names them by their type."""
    named = re.match(r'\{"type": "(\w+)"', event)
    return f"event: {named[1]}\n" if named else ""


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:  # such as Anthropic's 529
        return "Scripted"


def _model_of(path: str, value: Mapping[str, Any]) -> str | None:
    """Return the model that is asked; Gemini's clients name it in the path only."""
    named = re.search(r"/models/([^/?]+):", path)
    return named[1] if named else value.get("model")


def _shapes(path: str) -> ModuleType:
    """Return what words the answers take: whose interface the path belongs to."""
    if path.endswith("/messages"):
        return anthropic
    return gemini if "enerateContent" in path else openai


async def main() -> None:
    """Serve until standard input ends."""
    script = Script()

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        # Cancelled only when the process ends, which is nothing to report.
        with contextlib.suppress(asyncio.CancelledError):
            await Connection(script, reader, writer).serve()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    sys.stdout.write(f"{READY}{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), ended.set)  # nothing is ever written to it
    await ended.wait()


if __name__ == "__main__":
    asyncio.run(main())
