from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motadata.rag._lexical import MAX_WORD, words_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "CephMonQuorumAtRisk",
            {"cephmonquorumatrisk", "ceph", "mon", "quorum", "at", "risk"},
        ),
        ("0x80070005", {"0x80070005"}),
        ("INC-1234", {"inc-1234", "inc", "1234"}),
        ("max_connections", {"max_connections", "max", "connections"}),
        ("10.0.0.1", {"10.0.0.1", "10", "0", "1"}),
        ("HTTPServer", {"httpserver", "http", "server"}),
        ("Straße", {"strasse"}),
        ("東京都", {"東京", "京都"}),
        ("हिन्दी", {"हिन्दी"}),
        ("ﬁle", {"file"}),
        ("'; DROP -- &|! <-> :*", {"drop"}),
    ],
)
def test_words_and_identifiers_are_taken_apart(text: str, expected: set[str]) -> None:
    assert expected == set(words_of(text).counts)


def test_identifiers_count_by_their_parts() -> None:
    assert words_of("INC-1234 is open").length == 4
    assert words_of("CephMon").length == 2
    assert words_of("one two two").counts["two"] == 2


@given(st.text())
def test_any_text_has_storable_words(text: str) -> None:
    words = words_of(text)

    assert all(0 < len(word) <= MAX_WORD for word in words.counts)
    assert all("\0" not in word for word in words.counts)
    assert words.length >= 0
