"""The scripted OpenAI-compatible server, spoken to in plain HTTP."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import struct
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from motadata.core.models import ToolCall
from motadata.core.testing.openai_server import OpenAIServer, Reply


def post(server: OpenAIServer, path: str, value: dict[str, object]) -> tuple[int, str, str]:
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(server.url).port, timeout=10)
    try:
        connection.request("POST", f"/v1{path}", json.dumps(value), {"Authorization": "Bearer k"})
        response = connection.getresponse()
        text = response.read().decode()
        return response.status, response.getheader("Retry-After", ""), text
    finally:
        connection.close()


def chat(server: OpenAIServer, **more: object) -> tuple[int, str, str]:
    messages = [{"role": "user", "content": "hello"}]
    return post(server, "/chat/completions", {"model": "m", "messages": messages, **more})


def test_without_a_script_it_repeats_the_last_message(openai_server: OpenAIServer):
    status, _, text = chat(openai_server)

    assert status == 200
    assert json.loads(text)["choices"][0]["message"]["content"] == "You said: hello"


def test_queued_replies_are_used_once_and_by_model(openai_server: OpenAIServer):
    openai_server.always(Reply(text="always"))
    openai_server.reply(Reply(text="one"), Reply(text="two"))
    openai_server.reply(Reply(text="other"), model="n")

    answers = [json.loads(chat(openai_server, model=name)[2]) for name in "mnmm"]

    said = [answer["choices"][0]["message"]["content"] for answer in answers]
    assert said == ["one", "other", "two", "always"]


def test_requests_can_be_read_back(openai_server: OpenAIServer):
    chat(openai_server, temperature=0.5)

    (request,) = openai_server.requests
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == "Bearer k"
    assert request.body["temperature"] == 0.5
    assert not request.disconnected


def test_a_stream_has_a_piece_an_event_then_finish_reason_usage_and_done(
    openai_server: OpenAIServer,
):
    openai_server.reply(Reply(chunks=("Hel", "lo"), usage=(3, 2)))

    _, _, text = chat(openai_server, stream=True, stream_options={"include_usage": True})

    events = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert events[-1] == "[DONE]"
    parts = [json.loads(event) for event in events[:-1]]
    assert [part["choices"][0]["delta"].get("content") for part in parts[:2]] == ["Hel", "lo"]
    assert parts[2]["choices"][0]["finish_reason"] == "stop"
    assert parts[3]["usage"]["total_tokens"] == 5


def test_exact_events_are_sent_as_they_are(openai_server: OpenAIServer):
    openai_server.reply(Reply(events=('{"not": "ours"}', "[DONE]")))

    _, _, text = chat(openai_server, stream=True)

    assert text == 'data: {"not": "ours"}\n\ndata: [DONE]\n\n'


def test_tool_calls_are_asked_for(openai_server: OpenAIServer):
    openai_server.reply(Reply(tool_calls=(ToolCall("c1", "look_up", '{"id": 7}'),)))

    choice = json.loads(chat(openai_server)[2])["choices"][0]

    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"][0]["function"]["arguments"] == '{"id": 7}'


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings_come_in_either_encoding(openai_server: OpenAIServer, encoding: str):
    openai_server.reply(Reply(vectors=((1.0, 0.0), (0.0, 1.0))))

    _, _, text = post(
        openai_server, "/embeddings", {"input": ["a", "b"], "encoding_format": encoding}
    )

    raw = [item["embedding"] for item in json.loads(text)["data"]]
    vectors = [
        struct.unpack("<2f", base64.b64decode(item)) if encoding == "base64" else tuple(item)
        for item in raw
    ]
    assert vectors == [(1.0, 0.0), (0.0, 1.0)]


def test_errors_have_their_status_and_headers(openai_server: OpenAIServer):
    openai_server.reply(Reply(status=429, headers={"Retry-After": "7"}))

    status, retry_after, text = chat(openai_server)

    assert (status, retry_after) == (429, "7")
    assert json.loads(text)["error"]["code"] == "429"


def test_an_answer_can_break_off(openai_server: OpenAIServer):
    openai_server.reply(Reply(text="whole", cut=10))

    with pytest.raises(http.client.IncompleteRead):
        chat(openai_server)


def test_a_delay_is_kept(openai_server: OpenAIServer):
    openai_server.reply(Reply(text="late", delay=0.2))
    start = time.monotonic()

    chat(openai_server)

    assert time.monotonic() - start >= 0.2


async def test_a_client_that_goes_early_is_noticed(openai_server: OpenAIServer):
    openai_server.reply(Reply(hang=True))
    port = urlsplit(openai_server.url).port
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    body = b'{"model": "m"}'
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body))
    writer.write(body)
    await writer.drain()
    writer.close()

    request = await asyncio.to_thread(openai_server.wait_for_disconnect)

    assert request.body == {"model": "m"}


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="reads the process table of Linux")
def test_it_ends_with_the_process_that_started_it():
    code = (
        "import os\n"
        "from motadata.core.testing.openai_server import OpenAIServer\n"
        "server = OpenAIServer().__enter__()\n"
        "print(server._process.pid, flush=True)\n"
        "os._exit(0)\n"
    )
    started = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    status = Path("/proc") / started.stdout.strip() / "stat"

    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and not _gone(status):
        time.sleep(0.02)
    assert _gone(status)


def _gone(status: Path) -> bool:
    try:
        return status.read_text(encoding="ascii").rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
