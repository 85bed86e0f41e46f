"""A real server process that speaks OpenAI's, Anthropic's and Gemini's HTTP and answers by script.

    def test_mine(openai_server):
        openai_server.reply(Reply(text="Hello."))
        ...                                  # drive a client against openai_server.url
        assert openai_server.requests[0].body["model"] == "gpt-4o-mini"

It listens on loopback only, and ends when the process that started it ends. Without a script it
repeats the last message and embeds by words, like `FakeGateway`.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Final, Self, cast

from motadata.core.models import ToolCall


_CONTROL_TIMEOUT: Final = 10.0
_END_TIMEOUT: Final = 5.0
READY: Final = "listening on port "


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """How the server answers one request, or every one to a model.

    Attributes:
        text: The answer's words.
        tool_calls: Calls that the answer asks for.
        finish_reason: None means `tool_calls` if there are some, else `stop`.
        chunks: The text's pieces when it is streamed; None means its words.
        events: The exact payloads of a stream's events, in place of all of that.
        vectors: The embeddings; None means vectors by words.
        usage: Tokens in and out, or the exact object; None leaves `usage` out.
        status: HTTP status; from 400 on the body is an error of OpenAI's shape.
        headers: Further headers, such as `Retry-After`.
        body: The exact body, in place of all of that.
        raw: The exact bytes of a body of status 200, piece by piece, in place of all of that.
        delay: Seconds before the first byte.
        chunk_delay: Seconds between the events of a stream.
        hang: Whether to say nothing more once the events are out, until the client goes.
        cut: After how many events or raw pieces, or bytes of a body, the connection breaks.
    """

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    chunks: tuple[str, ...] | None = None
    events: tuple[str, ...] | None = None
    vectors: tuple[tuple[float, ...], ...] | None = None
    usage: tuple[int, int] | Mapping[str, object] | None = (10, 5)
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None
    raw: tuple[bytes, ...] | None = None
    delay: float = 0.0
    chunk_delay: float = 0.0
    hang: bool = False
    cut: int | None = None


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A request that reached the server.

    Attributes:
        headers: By lower-case name.
        body: The JSON that was sent.
        disconnected: Whether the client went before its answer was complete.
    """

    path: str
    headers: Mapping[str, str]
    body: Mapping[str, object]
    disconnected: bool


class OpenAIServer:
    """The server's process and what it is told; a context manager.

    Its methods block for a millisecond or so, which a test may.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """The address for clients, `http://127.0.0.1:<port>/v1`."""
        return f"http://127.0.0.1:{self._port}/v1"

    @property
    def requests(self) -> tuple[RecordedRequest, ...]:
        """Every request since the last `reset`, in the order of arrival."""
        return self._recorded(self._control("GET", "/requests", None))

    def reply(self, *replies: Reply, model: str | None = None) -> None:
        """Queue answers for the next requests to `model`, or to any; each is used once."""
        self._script("queue", replies, model)

    def always(self, reply: Reply, *, model: str | None = None) -> None:
        """Answer so whenever no queued reply fits."""
        self._script("always", (reply,), model)

    def reset(self) -> None:
        """Forget every script and request."""
        self._control("POST", "/reset", {})

    def wait_for_disconnect(self, *, timeout: float = 5.0) -> RecordedRequest:
        """Return the first request whose client went early, once there is one; blocks.

        Call it in a thread when the client runs on this thread's event loop.

        Raises:
            TimeoutError: There was none in time.
        """
        answer = self._recorded(self._control("POST", "/wait", {"timeout": timeout}))
        if not answer:
            message = f"no client disconnected within {timeout:g} s"
            raise TimeoutError(message)
        return answer[0]

    def __enter__(self) -> Self:
        """Start the process and wait until it listens."""
        command = [sys.executable, "-m", "motadata.core.testing._openai_server_main"]
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.startswith(READY):
            self.__exit__(None, None, None)
            message = "the scripted server did not start"
            raise RuntimeError(message)
        self._port = int(line.removeprefix(READY))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        with process:  # closes both pipes; the server ends when its input does
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(_END_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()

    def _script(self, kind: str, replies: tuple[Reply, ...], model: str | None) -> None:
        script = {"kind": kind, "model": model, "replies": [_as_json(reply) for reply in replies]}
        self._control("POST", "/script", script)

    def _recorded(self, answer: object) -> tuple[RecordedRequest, ...]:
        items = cast("list[dict[str, object]]", answer)
        return tuple(
            RecordedRequest(
                path=str(item["path"]),
                headers=cast("Mapping[str, str]", item["headers"]),
                body=cast("Mapping[str, object]", item["body"]),
                disconnected=bool(item["disconnected"]),
            )
            for item in items
        )

    def _control(self, method: str, path: str, value: object) -> object:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_CONTROL_TIMEOUT)
        try:
            body = None if value is None else json.dumps(value)
            connection.request(method, f"/_control{path}", body)
            return cast("object", json.loads(connection.getresponse().read()))
        finally:
            connection.close()


def _as_json(reply: Reply) -> dict[str, object]:
    raw = None if reply.raw is None else [piece.decode("latin-1") for piece in reply.raw]
    return {**asdict(reply), "raw": raw}
