from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motadata.core.models import Section
from motadata.rag._chunking import Chunk, chunk_text, estimate_tokens


_PIECES = st.sampled_from(
    [
        "The server restarts. ",
        "Is it down? ",
        "e.g. a test, ",
        "word ",
        "\n",
        "\n\n",
        "# Heading\n",
        "## Sub heading\n\n",
        "- item one\n",
        "* item\n",
        "1. first\n",
        "```\n$ oc get pods | grep x\n```\n",
        "```\nnever closed\n",
        "| a | b |\n",
        "東京都の天気。",
        "x" * 300,
        '{"key":[1,2,3]},',
        "…",
        "...... ",
        "\u00a0\u2003",
        "🙂",
        "It says:\n\n",
    ]
)
_TEXTS = st.one_of(st.text(max_size=600), st.lists(_PIECES, max_size=60).map("".join))


@st.composite
def _sectioned(draw: st.DrawFn) -> tuple[str, tuple[Section, ...]]:
    text = draw(_TEXTS)
    bounds = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
    headings = st.sampled_from([None, "A", "A > B", "A > C", "D"])
    sections = [
        Section(start, end, draw(st.one_of(st.none(), st.integers(1, 9))), draw(headings))
        for start, end in itertools.pairwise(bounds)
        if draw(st.booleans())
    ]
    return text, tuple(sections)


@given(_sectioned(), st.integers(20, 120))
@settings(max_examples=200, deadline=None)
def test_chunks_cover_every_character_within_the_budget(
    case: tuple[str, tuple[Section, ...]], budget: int
) -> None:
    text, sections = case

    chunks = chunk_text(text, sections, budget=budget, overlap=budget // 5)

    covered = {i for chunk in chunks for i in range(chunk.start, chunk.end)}
    assert {i for i, character in enumerate(text) if not character.isspace()} <= covered
    for chunk in chunks:
        cut = text[chunk.start : chunk.end]
        assert cut == cut.strip() != ""
        assert estimate_tokens(cut) <= budget


@given(_sectioned())
@settings(max_examples=50, deadline=None)
def test_chunks_are_the_same_each_time_and_move_forward(
    case: tuple[str, tuple[Section, ...]],
) -> None:
    text, sections = case

    chunks = chunk_text(text, sections, budget=40, overlap=8)

    assert chunks == chunk_text(text, sections, budget=40, overlap=8)
    assert [chunk.ordinal for chunk in chunks] == list(range(len(chunks)))
    for one, two in itertools.pairwise(chunks):
        assert one.start < two.start
        assert one.end < two.end


@given(_sectioned())
@settings(max_examples=50, deadline=None)
def test_a_chunks_sections_are_the_documents_cut_to_it(
    case: tuple[str, tuple[Section, ...]],
) -> None:
    text, sections = case
    labels = {
        i: (section.page, section.heading)
        for section in sections
        for i in range(section.start, section.end)
    }

    for chunk in chunk_text(text, sections, budget=40):
        found = {
            i: (part.page, part.heading)
            for part in chunk.sections
            for i in range(part.start, part.end)
        }
        expected = {i: labels[i] for i in range(chunk.start, chunk.end) if i in labels}
        assert expected == found


def _texts(text: str, chunks: list[Chunk]) -> list[str]:
    return [text[chunk.start : chunk.end] for chunk in chunks]


def test_empty_and_blank_texts_have_no_chunks() -> None:
    assert chunk_text("") == []
    assert chunk_text(" \n\t\u2003") == []


def test_chunks_end_with_sentences_and_share_whole_ones() -> None:
    text = " ".join(f"Sentence number {i} is about the mail server." for i in range(40))

    chunks = _texts(text, chunk_text(text, budget=60, overlap=15))

    assert all(chunk.startswith("Sentence") and chunk.endswith("server.") for chunk in chunks)
    for one, two in itertools.pairwise(chunks):
        assert one.rsplit("Sentence", 1)[1] in two


def test_a_large_section_keeps_to_its_heading() -> None:
    first, second = "Alpha is here. " * 30, "Beta is there. " * 30
    text = first + second
    sections = (
        Section(0, len(first), heading="Guide > Alpha"),
        Section(len(first), len(text), heading="Guide > Beta"),
    )

    chunks = chunk_text(text, sections, budget=60)

    assert {chunk.heading for chunk in chunks} == {"Guide > Alpha", "Guide > Beta"}
    for chunk in chunks:
        word = "Beta" if chunk.heading == "Guide > Alpha" else "Alpha"
        assert word not in text[chunk.start : chunk.end]


def test_small_sections_are_merged_under_what_they_share() -> None:
    text = "# One\n\nShort.\n\n# Two\n\nAlso short.\n"
    middle = text.index("# Two")
    sections = (
        Section(0, middle, page=1, heading="Guide > One"),
        Section(middle, len(text), page=2, heading="Guide > Two"),
    )

    chunks = chunk_text(text, sections)

    assert len(chunks) == 1
    assert (chunks[0].heading, chunks[0].page) == ("Guide", 1)
    assert [part.heading for part in chunks[0].sections] == ["Guide > One", "Guide > Two"]


def test_a_sentence_goes_on_over_a_page_break() -> None:
    text = "The report begins here and goes on\nover the page until its end."
    middle = text.index("over")
    sections = (Section(0, middle, page=1), Section(middle, len(text), page=2))

    chunks = chunk_text(text, sections)

    assert _texts(text, chunks) == [text]
    assert [part.page for part in chunks[0].sections] == [1, 2]


def test_code_stays_whole_and_with_the_line_that_announces_it() -> None:
    code = "```console\n$ oc adm cordon node-1\n$ oc adm drain node-1\n```"
    text = "Nodes are drained before work. " * 6 + f"\n\nDrain it by running:\n\n{code}\n\nDone."

    chunks = _texts(text, chunk_text(text, budget=70))

    assert any(f"Drain it by running:\n\n{code}" in chunk for chunk in chunks)


def test_a_sentence_that_announces_a_list_goes_with_it() -> None:
    paragraph = "Each type of incident has a strategy of its own that is written down. " * 4
    text = f"{paragraph}Criteria include:\n\n" + "".join(
        f"- Criterion number {number} of the list\n" for number in range(8)
    )

    found = _texts(text, chunk_text(text, budget=100, overlap=0))

    assert found[0].endswith("written down.")
    assert found[1].startswith("Criteria include:\n\n- Criterion number 0")


def test_a_list_stays_whole_when_it_fits() -> None:
    items = "\n".join(f"* step {i} of the plan" for i in range(6))
    text = "Some words come first. " * 8 + f"\n\n{items}\n\nAnd some after."

    chunks = _texts(text, chunk_text(text, budget=70))

    assert any(items in chunk for chunk in chunks)


def test_abbreviations_and_decimals_end_no_sentence() -> None:
    text = "Use a tool, e.g. Nmap, of version 3.2 or later. " * 12

    chunks = _texts(text, chunk_text(text, budget=40, overlap=0))

    assert all(chunk.endswith("later.") for chunk in chunks)


def test_japanese_is_cut_at_its_full_stops() -> None:
    text = "東京都の天気は晴れです。" * 40

    chunks = _texts(text, chunk_text(text, budget=60, overlap=0))

    assert len(chunks) > 1
    assert all(chunk.endswith("。") for chunk in chunks)


@pytest.mark.parametrize(
    "unit",
    [
        ".",
        ". ",
        "a",
        '{"a":1,',
        "\n ",
        "```\nx\n",
        "- a\n",
        "a:\n\n",
        "# a\n",
        '."',
        "東",
        "| a |\n",
    ],
)
def test_time_grows_with_the_length_only(unit: str) -> None:
    def seconds(size: int) -> float:
        text = unit * (size // len(unit))
        begin = time.process_time()
        chunk_text(text)
        return time.process_time() - begin

    small, large = seconds(20_000), seconds(160_000)

    # Eight times the text; quadratic time would be 64 times.
    assert large < 0.2 + 24 * small
