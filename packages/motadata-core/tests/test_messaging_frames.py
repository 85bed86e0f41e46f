"""Frames on NATS's wire: torn ones arrive whole, broken ones end the connection."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motadata.core.errors import MessagingError
from motadata.core.messaging._frame_reader import FrameReader
from motadata.core.messaging._frames import (
    _read_block,
    header_lines,
    read_headers,
    write_frame,
)
from motadata.core.messaging._transport import Incoming


class BrokenError(Exception):
    """What the reader raises for bytes that are no protocol."""


class Control:
    """The driver's parser: remembers what it gets."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.resets = 0

    async def parse(self, data: bytes = b"") -> None:
        self.lines.append(data)

    def reset(self) -> None:
        self.resets += 1


def reader_of(control: Control, received: list[Incoming]) -> FrameReader:
    reader = FrameReader(control, broken=BrokenError)
    reader.receivers[b"7"] = received.append
    return reader


def incoming_frame(subject: str, reply: str, headers: dict[str, str], data: bytes) -> bytes:
    """Turn what a client writes into what the server sends to the subscription 7."""
    frame = write_frame(subject, reply, header_lines(headers), data)
    verb, rest = frame.split(b" ", 1)
    name = subject.encode() + b" "
    return (b"HMSG " if verb == b"HPUB" else b"MSG ") + rest.replace(name, name + b"7 ", 1)


TEXT = st.text(
    st.characters(blacklist_categories=("Cs", "Cc", "Zs", "Zl", "Zp")), min_size=1, max_size=12
)
TOKEN = st.text("abcXYZ019_-.", min_size=1, max_size=20)
MESSAGES = st.tuples(
    TOKEN,
    st.one_of(st.just(""), TOKEN),
    st.dictionaries(st.text("abcXYZ-", min_size=1, max_size=8), TEXT, max_size=4),
    st.binary(max_size=60),
)


@given(st.lists(MESSAGES, min_size=1, max_size=5), st.lists(st.integers(1, 40), min_size=1))
async def test_messages_arrive_whole_however_the_stream_is_torn(
    messages: list[tuple[str, str, dict[str, str], bytes]], sizes: list[int]
):
    control, received = Control(), list[Incoming]()
    reader = reader_of(control, received)
    stream = b"PING\r\n".join(incoming_frame(*message) for message in messages)
    turn = position = 0
    while position < len(stream):
        size = sizes[turn % len(sizes)]
        await reader.parse(stream[position : position + size])
        position, turn = position + size, turn + 1
    got = [(one.subject, one.reply, one.headers, one.data) for one in received]
    assert got == messages
    assert control.lines == [b"PING\r\n"] * (len(messages) - 1)


async def arrive(reader: FrameReader, data: bytes) -> None:
    """Pass bytes on as a connection does: at once, and to the driver's task what is left."""
    if rest := reader.take(data):
        await reader.parse(rest)


@given(st.lists(MESSAGES, min_size=1, max_size=5), st.lists(st.integers(1, 40), min_size=1))
async def test_messages_taken_at_once_arrive_whole_and_in_order(
    messages: list[tuple[str, str, dict[str, str], bytes]], sizes: list[int]
):
    control, received = Control(), list[Incoming]()
    reader = reader_of(control, received)
    stream = b"PING\r\nMSG b 8 2\r\nhi\r\n".join(incoming_frame(*message) for message in messages)
    turn = position = 0
    while position < len(stream):
        size = sizes[turn % len(sizes)]
        await arrive(reader, stream[position : position + size])
        position, turn = position + size, turn + 1
    got = [(one.subject, one.reply, one.headers, one.data) for one in received]
    assert got == messages
    assert control.lines == [b"PING\r\n", b"MSG b 8 2\r\nhi\r\n"] * (len(messages) - 1)


async def test_nothing_is_taken_while_the_driver_is_at_something_that_came_before():
    received = list[Incoming]()

    class Slow(Control):
        async def parse(self, data: bytes = b"") -> None:
            late.append(reader.take(b"MSG a 7 5\r\nlater\r\n"))

    late: list[bytes] = []
    reader = reader_of(Slow(), received)
    await arrive(reader, b"MSG a 7 2\r\nhi\r\nPING\r\nMSG a 7 2\r\nyo\r\n")

    assert [one.data for one in received] == [b"hi", b"yo"]
    await arrive(reader, *late)
    assert [one.data for one in received] == [b"hi", b"yo", b"later"]


async def test_nothing_is_taken_after_bytes_that_cannot_be_until_the_next_connection():
    received = list[Incoming]()
    reader = reader_of(Control(), received)
    good, bad = b"MSG a 7 2\r\nhi\r\n", b"MSG a 7 3\r\nabcde\r\n"
    for _ in range(2):
        with pytest.raises(BrokenError):
            await arrive(reader, good + bad if not received else good)
        assert reader.take(good) == good
    reader.reset()
    await arrive(reader, good)

    assert [one.data for one in received] == [b"hi", b"hi"]


async def test_nothing_is_taken_after_the_driver_s_task_ended_in_the_middle():
    class Failing(Control):
        async def parse(self, data: bytes = b"") -> None:
            raise asyncio.CancelledError

    received = list[Incoming]()
    reader = reader_of(Failing(), received)
    with pytest.raises(asyncio.CancelledError):
        await arrive(reader, b"PING\r\nMSG a 7 99\r\n")

    assert reader.take(b"MSG a 7 2\r\nhi\r\n")
    assert not received


async def test_line_without_an_end_is_not_kept_for_ever():
    reader = reader_of(Control(), [])
    for _ in range(10):
        await arrive(reader, b"x" * 100_000)
    with pytest.raises(BrokenError):
        await arrive(reader, b"x" * 100_000)


async def test_beginning_of_each_connection_is_told_once():
    began = list[int]()
    reader = FrameReader(Control(), broken=BrokenError, began=lambda: began.append(1))
    for _ in range(2):
        await reader.parse(b"PING\r\n")
        await reader.parse(b"PING\r\n")
        reader.reset()

    assert len(began) == 2


@given(st.binary(max_size=200), st.integers(0, 199), st.integers(1, 255))
async def test_bytes_that_were_changed_end_the_connection_or_pass_and_raise_nothing_else(
    payload: bytes, position: int, change: int
):
    reader = reader_of(Control(), [])
    stream = bytearray(incoming_frame("sdk.a", "_INBOX.x", {"k": "v"}, payload) * 2)
    stream[position % len(stream)] ^= change
    try:
        await reader.parse(bytes(stream))
    except BrokenError:
        return


@given(st.binary(max_size=300))
async def test_any_bytes_are_read_or_end_the_connection(data: bytes):
    try:
        await reader_of(Control(), []).parse(data)
    except BrokenError:
        return


@pytest.mark.parametrize(
    "line",
    [
        b"MSG a 7 x\r\n",
        b"MSG a 7 -1\r\n",
        b"MSG a 7 99999999999\r\n",
        b"MSG a\r\n",
        b"HMSG a 7 9 3\r\n",
        b"HMSG a 7 b c d 1 2\r\n",
        b"MSG a 7 3\r\nabcde\r\n",
        b"-ERR 'Unknown Protocol Operation'\r\n",
        b"x" * 1_100_000,
    ],
)
async def test_line_that_cannot_be_ends_the_connection(line: bytes):
    with pytest.raises(BrokenError):
        await reader_of(Control(), []).parse(line)


@pytest.mark.parametrize(
    "line",
    [b"-ERR 'Authorization Violation'\r\n", b"-ERR 'Stale Connection'\r\n", b"INFO {}\r\n"],
)
async def test_what_the_driver_understands_goes_to_the_driver(line: bytes):
    control = Control()
    await reader_of(control, []).parse(line)
    assert control.lines == [line]


async def test_message_of_an_unknown_subscription_goes_to_the_driver():
    control, received = Control(), list[Incoming]()
    await reader_of(control, received).parse(b"MSG a 8 2\r\nhi\r\nMSG a 7 2\r\nyo\r\n")
    assert control.lines == [b"MSG a 8 2\r\nhi\r\n"]
    assert [one.data for one in received] == [b"yo"]


async def test_reader_that_is_reset_forgets_half_a_message():
    control, received = Control(), list[Incoming]()
    reader = reader_of(control, received)
    await reader.parse(b"MSG a 7 20\r\nhalf")
    reader.reset()
    await reader.parse(b"MSG a 7 2\r\nhi\r\n")
    assert [one.data for one in received] == [b"hi"]
    assert control.resets == 1


@pytest.mark.parametrize("value", ["a\r\nb", "a\nb", "a\rb"])
def test_header_with_a_line_break_is_refused(value: str):
    with pytest.raises(MessagingError, match="line break"):
        header_lines({"k": value})


def test_status_line_is_read_and_malformed_headers_are_left_out():
    block = b"NATS/1.0 503 No Responders\r\nnonsense\r\na:b\r\n\r\n"
    assert read_headers(block) == {"Status": "503", "a": "b"}


LINES = st.lists(
    st.sampled_from(
        [
            "traceparent: 00-x",
            "traceparent:",
            "motadata-deadline: 5",
            "motadata-tenant: acme",
            "motadata-tenant:globex",
            "k: v\n: w",
            "k",
            "",
            "\r",
        ]
    )
    | TEXT,
    max_size=6,
)


@given(st.sampled_from(["NATS/1.0", "NATS/1.0 503", ""]), LINES, st.binary(max_size=3))
def test_headers_that_are_remembered_read_as_any_others(first: str, lines: list[str], end: bytes):
    block = "\r\n".join([first, *lines, ""]).encode() + end
    assert read_headers(block) == read_headers(block) == _read_block(block)


async def test_rest_of_a_connection_that_ended_meanwhile_is_not_taken_into_the_next():
    class Restarting(Control):
        async def parse(self, data: bytes = b"") -> None:
            reader.reset()

    received = list[Incoming]()
    reader = reader_of(Restarting(), received)
    await reader.parse(b"PONG\r\nMSG a 7 20\r\nhalf")
    await reader.parse(b"MSG a 7 2\r\nhi\r\n")
    assert [one.data for one in received] == [b"hi"]
