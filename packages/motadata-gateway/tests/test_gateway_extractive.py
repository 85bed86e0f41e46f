"""The extractive model: only what the passages say, with its marks, or that it does not know."""

from __future__ import annotations

import itertools
import re
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from motadata.core.errors import ConfigurationError, ValidationError
from motadata.core.models import Message, Passage
from motadata.gateway import UNKNOWN, LLMGateway, _weights, create_gateway
from motadata.gateway._extractive import answer_from_passages
from motadata.gateway._ranking import by_words, to_compare
from motadata.gateway._units import units_of
from motadata.gateway._words import missing_names, stem


VPN = Passage(
    1,
    "# VPN\n\n## Tokens\n\nA VPN token is reset by the service desk. It proves first who calls.\n\n"
    "To restart the client, run:\n\n```sh\nsystemctl restart cinder\n```\n\n"
    "## Speed\n\nThe line carries 200 Mbit/s at most.",
    title="VPN handbook",
)
PRINTERS = Passage(
    2,
    "| Code | Meaning | Remedy |\n|---|---|---|\n| E-70 | Drum | Call the service desk |\n"
    "| E-71 | Paper jam in tray 2 | Open tray 2 and take out torn paper |",
    title="Printers",
    heading="Error codes",
)
CHANGES = Passage(
    3,
    "The advisory board meets every Tuesday at 14:00.\n\nA normal change needs:\n\n"
    "1. a rollback plan,\n2. a date,\n3. the approval of the board.",
    title="Changes",
)
PASSAGES = (VPN, PRINTERS, CHANGES)
MARK = re.compile(r"\s*\[(\d)\]\s*")


@pytest.fixture(params=["with weights", "words only"])
async def gateway(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    if request.param == "words only":
        monkeypatch.setattr(_weights, "PACKAGE", "no_such_package_of_weights")
    async with create_gateway() as made:
        yield made


async def ask(gateway: LLMGateway, question: str, *passages: Passage) -> str:
    message = Message("user", question, passages=passages or PASSAGES)
    return (await gateway.generate_async([message], tenant_id="acme")).text


@pytest.mark.parametrize(
    ("question", "words", "mark"),
    [
        ("Who resets a VPN token?", "A VPN token is reset by the service desk.", "[1]"),
        ("When does the advisory board meet?", "meets every Tuesday at 14:00.", "[3]"),
        ("What does the printer error E-71 mean?", "Paper jam in tray 2", "[2]"),
        ("How do I restart the VPN client?", "systemctl restart cinder", "[1]"),
        ("What does a normal change need?", "a rollback plan", "[3]"),
    ],
)
async def test_the_sentence_that_answers_is_quoted_with_its_mark(
    gateway: LLMGateway, question: str, words: str, mark: str
):
    answer = await ask(gateway, question)

    assert words in answer
    assert mark in answer


@pytest.mark.parametrize(
    "question",
    [
        "Who won the football world cup in 1998?",
        "How do I bake sourdough bread?",
        "What is the salary of the chief executive?",
        "qwertz uiop",
        "?",
    ],
)
async def test_a_question_that_no_passage_answers_gets_the_fixed_words(
    gateway: LLMGateway, question: str
):
    assert await ask(gateway, question) == UNKNOWN


async def test_without_passages_it_does_not_know(gateway: LLMGateway):
    answer = await gateway.generate_async("Who resets a VPN token?", tenant_id="acme")

    assert answer.text == UNKNOWN
    assert answer.finish_reason == "stop"


async def test_a_command_comes_with_the_sentence_that_announces_it(gateway: LLMGateway):
    answer = await ask(gateway, "How do I restart the client?")

    assert answer.startswith(
        "To restart the client, run:\n\n```sh\nsystemctl restart cinder\n```\n[1]"
    )


async def test_a_sentence_with_a_foreign_mark_is_not_quoted(gateway: LLMGateway):
    footnoted = Passage(
        1, "The VPN token is reset by the vendor [2]. Reset a VPN token at the desk."
    )
    other = Passage(2, "Printers print.")

    answer = await ask(gateway, "Who resets a VPN token?", footnoted, other)

    assert "vendor" not in answer
    assert answer == "Reset a VPN token at the desk. [1]"


async def test_the_same_statement_in_two_documents_is_quoted_once(gateway: LLMGateway):
    twin = Passage(2, "A VPN token is reset by the service desk.", title="Copy")

    answer = await ask(gateway, "Who resets a VPN token?", VPN, twin)

    assert answer.count("token is reset by") == 1


def test_the_most_promising_passage_is_compared_by_meaning_whatever_its_words():
    promising = Passage(1, "Staff leave their vehicles in the underground garage.")
    others = [
        Passage(2 + at, f"On {day} employees eat lunch in the park where the {kind} car race is.")
        for at, (day, kind) in enumerate(itertools.product(("Monday", "Friday"), "ABCDEFGHIJKL"))
    ]

    ranked = by_words("Where may employees park the car?", [promising, *others])
    compared = to_compare(ranked)

    assert all(candidate.passage != promising for candidate in ranked[:10])
    assert any(candidate.passage == promising for candidate in compared)
    assert len(compared) < len(ranked)


def test_of_two_equal_sentences_the_one_that_the_search_preferred_comes_first():
    twins = [Passage(number, "Tokens are reset at the desk.") for number in (1, 2, 3)]

    ranked = by_words("Where are tokens reset?", twins)

    assert [candidate.passage.number for candidate in ranked] == [1, 2, 3]


def test_what_is_compared_by_meaning_is_bounded_and_holds_some_of_every_passage():
    passages = [Passage(n, f"One of {n}. Two of {n}. Three of {n}. Four.") for n in range(1, 9)]
    many = [Passage(n, f"Sentence {n}.") for n in range(1, 101)]

    compared = to_compare(by_words("Which sentence?", passages))

    assert {candidate.passage.number for candidate in compared} == set(range(1, 9))
    assert len(to_compare(by_words("Which sentence?", many))) <= 20


async def test_an_answer_has_at_most_three_marks(gateway: LLMGateway):
    many = [Passage(n, f"The VPN token of site {n} is reset by team {n}.") for n in range(1, 10)]

    answer = await ask(gateway, "Which team resets the VPN token of a site?", *many)

    assert 1 <= len(MARK.findall(answer)) <= 3


async def test_each_of_several_passages_is_quoted_before_one_is_quoted_twice(gateway: LLMGateway):
    wordy = Passage(
        1,
        "Team blue resets the VPN token of clerks in Oslo. Team blue also resets a VPN token that "
        "expired on Sunday. The VPN token of an engineer abroad is reset by team blue too.",
    )
    other = Passage(2, "At night the door of the depot says which team resets a VPN token.")

    answer = await ask(gateway, "Which team resets the VPN token?", wordy, other)

    assert {"1", "2"} == set(MARK.findall(answer))


async def test_of_a_statement_in_two_passages_the_one_that_the_search_put_first_is_cited(
    gateway: LLMGateway,
):
    statement = "A VPN token is reset by the service desk within an hour."
    plain = Passage(1, f"The desk is in the hall. {statement}", title="Front desk")
    titled = Passage(2, statement, title="Who resets a VPN token, and how soon")

    answer = await ask(gateway, "Who resets a VPN token, and how soon?", plain, titled)

    assert answer.count(statement) == 1
    assert f"{statement} [1]" in answer


async def test_words_about_something_else_do_not_answer_who_asks_about_a_name(
    gateway: LLMGateway,
):
    passages = [
        Passage(1, "To move a virtual machine to another host, run `virtctl migrate`."),
        Passage(2, "Virtual machines are moved from one cluster to another by export."),
    ]

    known = await ask(gateway, "How do I move a virtual machine to a cluster?", *passages)
    other = await ask(gateway, "How do I move a virtual machine from VMware ESXi?", *passages)

    assert known != UNKNOWN
    assert other == UNKNOWN


@pytest.mark.parametrize(
    ("question", "missing"),
    [
        ("How do I log in with LDAP?", 1),
        ("LDAP does not work. Why?", 1),
        ("Does the NIS2 directive concern us?", 1),
        ("Can I travel to Kenya with it?", 1),
        ("What do Azure and VMware ask?", 2),
        # What stands in a text is not missing, whatever its ending or case.
        ("Who resets the VPNs of ACME?", 0),
        # A capital that begins a sentence names nothing.
        ('Someone called. Where to? "Nowhere" is no answer.', 0),
        ("MAY I SHOUT AT THE DESK", 0),
        # A word that every text has is no name, however it is written.
        ("What does the IT do?", 0),
        # Where many words have capitals, they tell nothing.
        ("Wer darf mit dem Auto auf den Hof der Firma und in die Garage fahren?", 0),
        ("I sent 300 mails, and I got E 70 back", 0),
        ("", 0),
    ],
)  # fmt: skip
def test_names_that_no_text_holds_are_counted(question: str, missing: int):
    assert missing_names(question, ["A VPN token of acme is reset.", "Else"]) == missing


async def test_streamed_and_whole_answer_are_the_same(gateway: LLMGateway):
    message = Message("user", "Who resets a VPN token?", passages=PASSAGES)

    chunks = [chunk async for chunk in gateway.stream([message], tenant_id="acme")]

    whole = await gateway.generate_async([message], tenant_id="acme")
    assert "".join(chunk.text for chunk in chunks) == whole.text
    assert len(chunks) > 3
    assert chunks[-1].finish_reason == "stop"
    assert chunks[-1].usage == whole.usage


async def test_max_tokens_cuts_the_answer_and_says_so(gateway: LLMGateway):
    message = Message("user", "Who resets a VPN token?", passages=PASSAGES)

    answer = await gateway.generate_async([message], max_tokens=3, tenant_id="acme")

    assert answer.text == "A VPN token"
    assert answer.finish_reason == "length"


async def test_an_embedding_model_does_not_answer(gateway: LLMGateway):
    with pytest.raises(ConfigurationError, match="motadata/extractive"):
        await gateway.generate_async("x", model="motadata/all-MiniLM-L6-v2", tenant_id="acme")


async def test_a_conversation_must_end_with_the_user(gateway: LLMGateway):
    turns = [Message("user", "hello"), Message("assistant", "Hello.")]

    with pytest.raises(ValidationError, match="assistant"):
        await gateway.generate_async(turns, tenant_id="acme")


async def test_too_much_text_is_refused(gateway: LLMGateway):
    with pytest.raises(ValidationError, match="200000"):
        await ask(gateway, "What?", Passage(1, "word " * 50_000))


def quoted(answer: str) -> list[tuple[str, int]]:
    """Return what stands before each mark, with the mark's number."""
    found, position = [], 0
    for mark in re.finditer(r"\s\[(\d+)\](?=\s|$)", answer):
        found.append((answer[position : mark.start()], int(mark[1])))
        position = mark.end()
    return found


PARTS = [
    "The VPN token is reset.",
    "## Reset",
    "- token of the VPN",
    "  more",
    "1. reset it",
    "```",
    "| token | VPN |",
    "|---|---|",
    "key: VPN token",
    "A title",
    "e.g. this. And",
    "run:",
    "`reset vpn`",
    "[1]",
    "Reset the token",
]
ODD_PARTS = ["", " ", "\n", "\t", "\u00a0", "x" * 900, "\u9577\u3044\u6587\u3002VPN\uff01"]
TEXTS = st.lists(st.sampled_from(PARTS + ODD_PARTS), max_size=30).map("\n".join)


@given(texts=st.lists(TEXTS, min_size=1, max_size=3))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_every_quotation_stands_in_the_passage_that_its_mark_names(texts: list[str]):
    passages = [Passage(number, text) for number, text in enumerate(texts, 1)]

    answer = await answer_from_passages("How is the VPN token reset?", passages, None)

    assert answer == UNKNOWN or quoted(answer)
    for words, number in quoted(answer):
        assert "".join(words.split()) in "".join(texts[number - 1].split())


@given(text=st.one_of(TEXTS, st.text(max_size=400)))
def test_units_are_slices_of_the_passage(text: str):
    for unit in units_of(text):
        assert text[unit.start : unit.end] == unit.text
        assert 0 < len(unit.text) <= 900


@pytest.mark.parametrize(
    "text",
    ["a. " * 60_000, "- x\n" * 50_000, "\n".join("A b" for _ in range(50_000)), "`" * 200_000,
     "x\n\n" * 60_000, "| a |\n" * 30_000, "key: v\n" * 25_000, " " * 200_000, "#" * 200_000],
)  # fmt: skip
def test_hostile_text_is_cut_in_linear_time(text: str):
    def seconds(characters: int) -> float:
        start = time.process_time()
        units_of(text[:characters])
        return time.process_time() - start

    short = min(seconds(25_000) for _ in range(3))

    # Eight times the text: eight times as long, or sixty-four times where it is not linear.
    assert seconds(200_000) < 24 * short + 0.1


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Use port 4.2. Then e.g. Windows works. Done!", 3),
        ("Version 1.2.3 of J. Smith is fine. Next.", 2),
        ("これは文です。次の文。", 2),
        ("Ask why? Because. It “ends.” Here.", 4),
    ],
)
def test_sentences_end_where_a_reader_says(text: str, sentences: int):
    assert sum(unit.kind == "sentence" for unit in units_of(text)) == sentences


def test_a_title_without_markup_is_context_and_no_answer():
    text = (
        "Who approves\nThe board approves normal changes.\nEscalation\nAsk the head of operations."
    )

    units = [unit for unit in units_of(text) if unit.kind == "sentence"]

    assert [unit.text for unit in units] == [
        "The board approves normal changes.",
        "Ask the head of operations.",
    ]
    assert [unit.context for unit in units] == ["Who approves", "Escalation"]


@pytest.mark.parametrize(
    ("one", "other"),
    [("resets", "reset"), ("policies", "policy"), ("running", "run"), ("removed", "remove"),
     ("patches", "patch"), ("quickly", "quick"), ("status", "status"), ("E71", "E71")],
)  # fmt: skip
def test_forms_of_a_word_share_a_stem(one: str, other: str):
    assert stem(one) == stem(other)
