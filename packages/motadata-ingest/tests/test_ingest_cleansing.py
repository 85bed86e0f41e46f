"""Cleansing: stored text is composed and visible; doing it twice changes nothing."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motadata.ingest import Limits
from motadata.ingest._cleanse import clean_line, cleanse
from motadata.ingest._parse import parse


@pytest.mark.parametrize(
    ("raw", "expected", "hidden"),
    [
        ("a\r\nb\rc\u2028d", "a\nb\nc\nd", 0),
        ("e\u0301", "é", 0),
        ("a\0b\x1bc\x9fd", "abcd", 0),
        ("half \ud800 pair", "half  pair", 0),
        ("pass\u200bword", "password", 1),
        ("\u202eevil\u202c", "evil", 2),
        ("ok\U000e0069\U000e0067\U000e006e", "ok", 3),
        ("a\u200db", "ab", 1),
        ("\u0645\u06cc\u200c\u062e", "\u0645\u06cc\u200c\u062e", 0),  # Persian
        ("👩\u200d💻 ❤\ufe0f", "👩\u200d💻 ❤\ufe0f", 0),
        ("x\ufe00\ufe01\ufe02y", "xy", 3),
        ("in\u00adci\u00addent", "incident", 0),
        ("a  \n\n\n\n\nb\t\n", "a\n\nb", 0),
        ("a\u00a0b", "a b", 0),
        ("\ufeffstart", "start", 1),
    ],
)
def test_text_is_cleansed(raw: str, expected: str, hidden: int):
    assert cleanse(raw) == (expected, hidden)


@given(st.text(st.characters(codec=None), max_size=200))
def test_cleansed_text_is_storable_and_stable(raw: str):
    text, _ = cleanse(raw)

    assert cleanse(text) == (text, 0)
    assert unicodedata.is_normalized("NFC", text)
    assert text.encode().decode() == text
    assert not set(text) & set("\0\r\u200b\u202e\ufffe")


JOINERS = st.text("aé \n\u200c\u200d\ufe00\ufe01\u200b\u3000\u037e\u0301\u00a0\u00ad", max_size=60)


@given(JOINERS)
def test_nested_joiners_leave_nothing_to_drop(raw: str):
    text, _ = cleanse(raw)

    assert cleanse(text) == (text, 0)


def test_hidden_characters_are_counted_in_the_metadata():
    document = parse("pay\u200bload \U000e0041".encode(), "x.txt", Limits())

    assert document.metadata == {"hidden_characters": "2"}


def test_titles_are_one_bounded_line():
    assert clean_line(" A\n\ttitle\u202e ") == "A title"
    assert len(clean_line("x" * 5_000)) == 300


@given(st.lists(st.tuples(st.text("ab#\n \u200be\u0301", max_size=30)), max_size=8))
def test_sections_of_markdown_start_at_their_headings(parts: list[tuple[str]]):
    text = "".join(f"\n# h{at}\n\n{part}\n\nend\n" for at, (part,) in enumerate(parts)) or "x"

    document = parse(text.encode(), "a.md", Limits())

    for start, end, _, heading in document.sections:
        last = (heading or "").rsplit(" > ", 1)[-1]
        assert last in " ".join(document.text[start:end].split("\n")[0].split())
