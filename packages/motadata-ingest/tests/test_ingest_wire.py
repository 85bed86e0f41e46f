"""What a taken-over reader process might say is refused."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motadata.core.errors import LoaderCrashedError, UnreadableFileError
from motadata.ingest import Limits
from motadata.ingest._frames import frame, read_frame
from motadata.ingest._wire import Description, read_answer, to_document


GOOD = {"title": "T", "media_type": "text/plain", "sections": [[0, 2, 1, "H"]], "metadata": {}}


def answer(**changes: object) -> bytes:
    return json.dumps({"document": {**GOOD, **changes}}).encode()


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"nonsense",
        b"{}",
        b'{"document": null}',
        answer(extra=1),
        answer(title=7),
        answer(title="x" * 501),
        answer(sections=[[0, "2", 1, "H"]]),
        answer(metadata={"a": ["b"]}),
        json.dumps({"document": GOOD, "error": {"code": "", "message": "", "remedy": ""}}).encode(),
    ],
)
def test_malformed_answers_are_refused(header: bytes):
    with pytest.raises(LoaderCrashedError, match="agreement"):
        read_answer(header)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_refused(header: bytes):
    with pytest.raises(LoaderCrashedError):
        read_answer(header)


@pytest.mark.parametrize(
    "sections",
    [
        [(-1, 2, None, None)],
        [(0, 9, None, None)],
        [(2, 1, None, None)],
        [(0, 3, 1, None), (2, 4, 1, None)],
    ],
    ids=["negative", "behind-the-end", "backwards", "overlapping"],
)
def test_sections_that_do_not_fit_the_text_are_refused(sections: list[tuple[int, int, None, None]]):
    description = Description(title="T", media_type="text/plain", sections=sections, metadata={})

    with pytest.raises(LoaderCrashedError):
        to_document(description, b"text", source="a", limits=Limits())


@pytest.mark.parametrize("text", [b"\xff", b"longer than allowed"], ids=["no-utf-8", "too-long"])
def test_text_that_breaks_the_agreement_is_refused(text: bytes):
    description = Description(title="T", media_type="text/plain", sections=[], metadata={})

    with pytest.raises(LoaderCrashedError):
        to_document(description, text, source="a", limits=Limits(characters=5))


def test_errors_come_back_as_their_kind_in_one_line():
    header = json.dumps(
        {"error": {"code": "unreadable_file", "message": "Bad\n\u202efile.", "remedy": "Fix it."}}
    ).encode()

    failure = read_answer(header).error

    assert failure is not None
    error = failure.to_error()
    assert type(error) is UnreadableFileError
    assert str(error) == "Bad file. Fix it."


async def test_announced_length_above_the_bound_is_refused():
    reader = asyncio.StreamReader()
    reader.feed_data(frame(b"x" * 100))

    with pytest.raises(LoaderCrashedError, match="100 bytes"):
        await read_frame(reader, most=99)
