"""Small tools for writing ASGI middleware: answers, and what is known of a response on its way."""

from __future__ import annotations

from starlette.types import Message, Scope, Send

from motadata.api._problems import Problem
from motadata.core.observability import current_trace_id


class ResponseWatch:
    """Passes a response on and remembers how far it has got."""

    def __init__(self, send: Send, headers: list[tuple[bytes, bytes]] | None = None) -> None:
        self._send = send
        self._headers = headers or []
        self.status: int | None = None
        self.complete = False

    async def send(self, message: Message) -> None:
        """Pass one message on, the extra headers added to the first."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            present = {name for name, _ in message["headers"]}
            extra = [(name, value) for name, value in self._headers if name not in present]
            message = {**message, "headers": [*message["headers"], *extra]}
        elif message["type"] == "http.response.body":
            self.complete = not message.get("more_body", False)
        await self._send(message)


async def send_problem(problem: Problem, send: Send) -> None:
    """Answer with a problem."""
    body = problem.body(current_trace_id()).model_dump_json().encode()
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        **problem.headers(),
    }
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def header(scope: Scope, name: bytes) -> str | None:
    """Return the first header of that lower-case name."""
    for key, value in scope["headers"]:
        if key == name:
            text: str = value.decode("latin-1")
            return text
    return None


def route_of(scope: Scope) -> str:
    """Return the pattern of the path that the request matched, free of ids; `-` when none did."""
    path: str = getattr(scope.get("route"), "path", "-")
    return path
