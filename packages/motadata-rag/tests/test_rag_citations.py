from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from motadata.core.models import Completion, RetrievedChunk, Section
from motadata.rag._answering import answer_from
from motadata.rag._citations import cite, find_quote
from motadata.rag._retrieval import Hit


def _hit(text: str, *, document_id: str = "vpn", start: int = 100) -> Hit:
    chunk = RetrievedChunk(
        document_id=document_id,
        version=3,
        chunk=0,
        title="VPN",
        source="vpn.md",
        text=text,
        start=start,
        end=start + len(text),
        page=1,
        heading="Access",
        score=0.8,
    )
    return Hit(chunk, (), 1.0)


_RESET = _hit("Tokens expire. The token is reset in the portal. Call 4711 otherwise.")
_PAPER = _hit("Open tray two to clear a jam.", document_id="printer")


def test_a_mark_points_to_the_words_that_it_follows() -> None:
    _, citations = cite("The token is reset in the portal [1].", [_RESET])

    assert citations[0].quote == "The token is reset in the portal."
    assert (citations[0].start, citations[0].end) == (115, 148)
    assert (citations[0].document_id, citations[0].version) == ("vpn", 3)


def test_citations_are_numbered_by_first_mention() -> None:
    text, citations = cite(
        "Open tray two [2]. The token is reset in the portal [1]. To clear a jam [2].",
        [_RESET, _PAPER],
    )

    assert text.startswith("Open tray two [1]. The token is reset in the portal [2].")
    assert [citation.document_id for citation in citations][:2] == ["printer", "vpn"]


def test_two_statements_of_one_passage_are_two_places() -> None:
    text, citations = cite("Tokens expire. [1] Call 4711 otherwise. [1]", [_RESET])

    assert text == "Tokens expire. [1] Call 4711 otherwise. [2]"
    assert [citation.quote for citation in citations] == ["Tokens expire.", "Call 4711 otherwise."]


def test_the_same_place_is_cited_once() -> None:
    text, citations = cite("Tokens expire [1][1]. As said, tokens expire. [1]", [_RESET])

    assert text == "Tokens expire [1]. As said, tokens expire. [1]"
    assert len(citations) == 1


def test_marks_that_name_no_passage_are_removed() -> None:
    text, citations = cite("Tokens expire [7]. Call 4711 otherwise [0, 1].", [_RESET])

    assert text == "Tokens expire. Call 4711 otherwise [1]."
    assert len(citations) == 1


def test_several_numbers_in_one_mark_are_several_citations() -> None:
    text, citations = cite("Portal and tray two [1, 2].", [_RESET, _PAPER])

    assert text == "Portal and tray two [1][2]."
    assert {citation.document_id for citation in citations} == {"vpn", "printer"}


def test_a_mark_before_its_sentence_is_understood() -> None:
    _, citations = cite("[1] Tokens expire.", [_RESET])

    assert citations[0].quote == "Tokens expire."


def test_words_told_differently_point_to_the_nearest_sentence() -> None:
    start, end = find_quote(_RESET.chunk.text, "Users can reset their token at the portal.")

    assert _RESET.chunk.text[start:end] == "The token is reset in the portal."


def test_line_breaks_and_case_do_not_matter() -> None:
    passage = "First.\nThe Token is\n  reset in the portal.\nLast."

    start, end = find_quote(passage, "the token is reset in the portal")

    assert passage[start:end] == "The Token is\n  reset in the portal."


def test_a_command_in_a_code_block_is_quoted_alone() -> None:
    passage = "Drain the node:\n\n```console\n$ oc adm drain node-1\n```\n\nThen wait."

    start, end = find_quote(passage, "Run `oc adm drain node-1`")

    assert passage[start:end] == "$ oc adm drain node-1"


def test_a_whole_code_block_is_quoted_with_its_fences() -> None:
    block = "```console\n$ oc adm drain node-1\n```"
    passage = f"Drain the node:\n\n{block}\n\nThen wait."

    text, citations = cite(f"{block}\n[1]", [_hit(passage)])

    assert text == f"{block}\n[1]"
    assert citations[0].quote == block


def test_page_and_heading_are_those_of_the_quote() -> None:
    sections = (Section(100, 115, 1, "Access"), Section(115, 170, 2, "Access > Reset"))
    hit = Hit(_RESET.chunk, sections, 1.0)

    _, citations = cite("The token is reset in the portal [1].", [hit])

    assert (citations[0].page, citations[0].heading) == (2, "Access > Reset")


def test_answer_names_the_call_that_worded_it() -> None:
    answer = answer_from("Who?", Completion("No.", "m", call_id="c-1"), [_RESET], trace_id=None)
    assert answer.call_id == "c-1"


def test_words_without_citations_are_no_answer() -> None:
    answer = answer_from("Who?", Completion("It was me.", "m"), [_RESET], trace_id=None)

    assert (answer.answered, answer.answer, answer.citations) == (False, "I don't know.", ())


def test_admitted_ignorance_is_no_answer_even_with_a_mark() -> None:
    answer = answer_from("Who?", Completion("I don't know. [1]", "m"), [_RESET], trace_id=None)

    assert not answer.answered
    assert answer.citations == ()


@given(st.text(min_size=1).filter(lambda text: text.strip()), st.text())
def test_a_quote_is_always_a_part_of_its_passage(passage: str, claim: str) -> None:
    start, end = find_quote(passage, claim)

    assert 0 <= start < end <= len(passage)


@given(st.lists(st.sampled_from(["[1]", "[2]", "[3]", "[1, 2]", " ", ".", "tray", "token", "\n"])))
def test_every_mark_that_stays_names_a_citation(pieces: list[str]) -> None:
    text, citations = cite("".join(pieces), [_RESET, _PAPER])

    numbers = [int(mark) for mark in re.findall(r"\[(\d+)\]", text)]
    assert set(numbers) == set(range(1, len(citations) + 1))
    assert list(dict.fromkeys(numbers)) == sorted(set(numbers))
