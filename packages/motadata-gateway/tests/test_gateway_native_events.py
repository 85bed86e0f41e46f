"""Server-sent events come out whole, however their bytes are cut."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motadata.gateway._native._events import EventReader, EventTooLargeError


LINES = st.sampled_from(["\n", "\r\n", "\r"])
VALUES = st.text(st.characters(exclude_characters="\r\n", exclude_categories=("Cs",)), max_size=30)


def read(pieces: list[bytes], *, largest: int = 10_000) -> list[bytes]:
    reader = EventReader(largest=largest)
    return [event for piece in pieces for event in reader.feed(piece)] + reader.flush()


@given(data=st.data(), values=st.lists(st.lists(VALUES, min_size=1, max_size=3), max_size=5))
def test_events_are_the_same_wherever_their_bytes_are_cut(
    data: st.DataObject, values: list[list[str]]
):
    end = data.draw(LINES)
    sent = "".join(
        data.draw(st.sampled_from(["", f": comment{end}", f"event: x{end}id: 1{end}"]))
        + "".join(f"data: {value}{end}" for value in lines)
        + end
        for lines in values
    ).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=8)))
    places = [0, *cuts, len(sent)]

    pieces = [sent[start:stop] for start, stop in pairwise(places)]

    assert read(pieces) == ["\n".join(lines).encode() for lines in values]


def test_every_single_cut_of_a_stream_gives_the_same_events():
    sent = 'data: {"a": "hé🙂"}\r\n\r\n: ping\n\ndata: one\ndata:two\n\ndata: [DONE]\n\n'.encode()
    whole = read([sent])

    assert whole == ['{"a": "hé🙂"}'.encode(), b"one\ntwo", b"[DONE]"]
    for cut in range(len(sent) + 1):
        assert read([sent[:cut], sent[cut:]]) == whole
    assert read([sent[place : place + 1] for place in range(len(sent))]) == whole


@pytest.mark.parametrize(
    ("sent", "events"),
    [
        (b"\xef\xbb\xbfdata: x\n\n", [b"x"]),
        (b"data:  x\n\n", [b" x"]),
        (b"data\n\n", [b""]),
        (b"data: x", [b"x"]),
        (b"database: x\n\n", []),
        (b"\n\n\n", []),
        (b"", []),
    ],
)
def test_lines_are_read_as_the_standard_says(sent: bytes, events: list[bytes]):
    assert read([sent]) == events
    assert read([sent[place : place + 1] for place in range(len(sent))]) == events


@pytest.mark.parametrize("piece", [b"x" * 7, b"data: 12345\n"])
def test_an_event_without_end_is_refused(piece: bytes):
    with pytest.raises(EventTooLargeError):
        read([piece] * 40, largest=100)


def test_the_work_is_linear_in_the_bytes():
    def seconds(size: int) -> float:
        reader = EventReader(largest=10**9)
        started = time.process_time()
        for _ in range(size):
            reader.feed(b"x")
        return time.process_time() - started

    assert min(seconds(40_000) for _ in range(3)) < 12 * min(seconds(10_000) for _ in range(3))
