from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motadata.core.errors import CacheError
from motadata.core.identifiers import new_id
from motadata.core.observability import configure_observability, get_logger, hide_personal_data
from motadata.core.observability._logging import output
from motadata.core.observability._personal_data import _PERSONAL, _mark


# Numbers that the schemes and banks publish as examples.
CARDS = ["4111111111111111", "5555555555554444", "378282246310005", "6011111111111117"]
IBANS = [
    "DE89370400440532013000",
    "GB82WEST12345698765432",
    "NO9386011117947",
    "FR1420041010050500013M02606",
]


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from([*"4DE :.-@/aF1", "12", "::", "fe80", "41111", "10.0.", "a@b.cd", "é"]),
        max_size=30,
    ).map("".join)
)
def test_shortcut_passes_nothing_by_that_would_be_hidden(text: str) -> None:
    assert hide_personal_data(text) == _PERSONAL.sub(_mark, text)


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("shape", ["{}", "card {}.", "({})", "{} 12", "a {} b"])
def test_card_is_hidden_wherever_it_stands(card: str, shape: str) -> None:
    spaced = " ".join(card[place : place + 4] for place in range(0, len(card), 4))

    for written in (card, spaced, spaced.replace(" ", "-")):
        shown = hide_personal_data(shape.format(written))
        assert shown == shape.format("[card]")


@pytest.mark.parametrize("iban", IBANS)
@pytest.mark.parametrize("shape", ["{}", "to {}, please", "{} AND MORE", "AB12 {}"])
def test_iban_is_hidden_wherever_it_stands(iban: str, shape: str) -> None:
    spaced = " ".join(iban[place : place + 4] for place in range(0, len(iban), 4))

    for written in (iban, spaced, iban.lower()):
        assert hide_personal_data(shape.format(written)) == shape.format("[iban]")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mail jane.doe+x@mail.example.co.uk!", "mail [email]!"),
        ("<ana@example.org>", "<[email]>"),
        ("from 203.0.113.7:443", "from [ip]:443"),
        ("from 10.1.2.3", "from [ip]"),
        ("from 2001:db8::8a2e:370:7334 now", "from [ip] now"),
        ("from [fe80::1]", "from [[ip]]"),
    ],
)
def test_addresses_are_hidden(text: str, shown: str) -> None:
    assert hide_personal_data(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111112",  # the check digit is wrong
        "DE88370400440532013000",  # likewise
        "1763841234567",  # milliseconds since 1970
        "INC0012345 took 12:30:45 on 2026-11-22T19:30:33.781+00:00",
        "version 1.2.3 of 999.1.1.1",
        "127.0.0.1 ::1 0.0.0.0 ::",
        "std::vector<int> and a@b",
        "717ccadb7818e817185e62d8292eb70d",
        "4111111111111111-in-a-name",
        "",
    ],
)
def test_what_identifies_nobody_is_left_alone(text: str) -> None:
    assert hide_personal_data(text) == text


def test_our_own_ids_are_left_alone() -> None:
    ids = [str(new_id()) for _ in range(2000)]

    assert [hide_personal_data(one) for one in ids] == ids


def test_the_end_of_a_uuid_is_no_iban() -> None:
    # Its last two groups are a valid Belgian number.
    identifier = "01a20518-90ac-71b7-be83-527c71c578ef"

    assert hide_personal_data(identifier) == identifier
    assert hide_personal_data("BE83 527C 71C5 78EF") == "[iban]"


@given(number=st.from_regex(r"\A4[0-9]{15}\Z"))
def test_check_digit_decides_about_any_number(number: str) -> None:
    total = 0
    for place, digit in enumerate(reversed(number)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value

    assert (hide_personal_data(number) == "[card]") == (total % 10 == 0)


@given(text=st.text(max_size=200) | st.text("4DE8 -.:@a", max_size=200))
def test_hiding_twice_hides_no_more_than_once(text: str) -> None:
    hidden = hide_personal_data(text)

    assert hide_personal_data(hidden) == hidden


@pytest.mark.parametrize("unit", ["a", "a.", "1", "4 ", "1.", "a:", "DE12 ", "a@", "@", "-", "1-"])
def test_hostile_text_takes_linear_time(unit: str) -> None:
    started = time.perf_counter()

    hide_personal_data(unit * 50_000)

    assert time.perf_counter() - started < 5


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    configure_observability(stream=stream)
    yield stream
    output.configure()


def test_log_line_holds_no_personal_data(stream: io.StringIO) -> None:
    get_logger("sample").info(
        "mail to ana@example.org",
        note="paid with 4111 1111 1111 1111",
        peers=["203.0.113.7", "127.0.0.1"],
        error=CacheError("The key 'DE89370400440532013000' is bad."),
    )

    line = json.loads(stream.getvalue())
    assert line["event"] == "mail to [email]"
    assert (line["note"], line["peers"]) == ("paid with [card]", ["[ip]", "127.0.0.1"])
    assert line["error"]["message"] == "The key '[iban]' is bad."
