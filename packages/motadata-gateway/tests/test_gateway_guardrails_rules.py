"""What each rule finds, what it leaves alone, and that streams and hostile texts change nothing."""

from __future__ import annotations

import json
import random
import string
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motadata.core.errors import ConfigurationError, MissingExtraError
from motadata.core.protocols import STREAM_WINDOW, GuardedText
from motadata.gateway import CallNotes
from motadata.gateway.guardrails import (
    CompliancePack,
    ContentFilter,
    ForbiddenPattern,
    GuardrailPolicy,
    JsonFormat,
    Language,
    PatternFormat,
    PersonalData,
    Secrets,
    WordFilter,
)
from motadata.gateway.guardrails._rule import TextRule
from motadata.gateway.guardrails._streaming import WindowedAnswer


def answer(text: str, feature: str = "") -> GuardedText:
    return GuardedText(text=text, stage="output", tenant_id="acme", role="answer", feature=feature)


def found(rule: TextRule, text: str, feature: str = "") -> list[tuple[str, str]]:
    return [(one.rule, text[one.start : one.end]) for one in rule.find(answer(text, feature))]


def rules(rule: TextRule, text: str, feature: str = "") -> set[str]:
    return {one.rule for one in rule.find(answer(text, feature))}


@pytest.mark.parametrize(
    ("kind", "written"),
    [
        ("email", "bob.smith+it@example.co.uk"),
        ("card", "4111 1111 1111 1111"),
        ("card", "3782-822463-10005"),
        ("iban", "GB82 WEST 1234 5698 7654 32"),
        ("iban", "DE89370400440532013000"),
        ("ip", "10.20.30.40"),
        ("ip", "2001:db8::7"),
        ("national_id", "2341 2341 2346"),
        ("national_id", "529.982.247-25"),
        ("national_id", "11010519491231002X"),
        ("national_id", "44051401359"),
        ("national_id", "255081416802538"),
        ("national_id", "12345678Z"),
        ("national_id", "X1234567L"),
    ],
)
@pytest.mark.parametrize("shape", ["{}", "it is {}, he said", "({}) 17 and 4", "x={};"])
def test_personal_data_is_found_as_it_is_written(kind: str, written: str, shape: str) -> None:
    assert (f"pii.{kind}", written) in found(PersonalData(), shape.format(written))


@pytest.mark.parametrize(
    "text",
    [
        "Order 4111 1111 1111 1112 of 2026-11-22 09:15:30",
        "INC0012345, CHG-20431, error 0x800704C9, version 10.2.3",
        "127.0.0.1 and ::1 are nobody's",
        "41111111-1111-4111-8111-111111111111",
        "@channel look at user@ or @home",
        "GB83 WEST 1234 5698 7654 32",
        "12345678A and 529.982.247-26",
    ],
)
def test_what_only_looks_like_personal_data_is_left_alone(text: str) -> None:
    assert found(PersonalData(), text) == []


def test_telephone_numbers_are_those_that_can_be_dialled() -> None:
    pytest.importorskip("phonenumbers")
    everywhere = PersonalData(kinds=["phone"])
    indian = PersonalData(kinds=["phone"], region="IN")

    assert found(everywhere, "call +49 30 901820 now") == [("pii.phone", "+49 30 901820")]
    assert found(everywhere, "call 098765 43210 or +1 111 111 1111") == []
    assert found(indian, "call 098765 43210 now") == [("pii.phone", "098765 43210")]


def test_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "phonenumbers", None)
    monkeypatch.setitem(sys.modules, "re2", None)
    monkeypatch.setitem(sys.modules, "lingua", None)

    with pytest.raises(MissingExtraError, match="guardrails"):
        PersonalData(kinds=["phone"])
    with pytest.raises(MissingExtraError, match="guardrails"):
        ForbiddenPattern("mine", "a+")
    with pytest.raises(MissingExtraError, match="language"):
        Language(["en"])


@pytest.mark.parametrize(
    ("kind", "written"),
    [
        ("openai", "sk-proj-abcdefghij1234567890"),
        ("aws", "AKIAIOSFODNN7EXAMPLE"),
        ("github", "ghp_abcdefghij1234567890abcdefghij123456"),
        ("slack", "xoxb-123456789012-abcdefGHIJ"),
        ("google", "AIzaSyA1234567890abcdefghijklmnopqrstuv"),
        ("jwt", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"),
        ("private_key", "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----"),
        ("random", "q7Xp2LmZ9vRt4KwY8sBn3HcD6fGj1TeU5aQo"),
    ],
)
def test_credentials_are_found_as_they_are_written(kind: str, written: str) -> None:
    assert (f"secrets.{kind}", written) in found(Secrets(), f"use {written} for it")


def test_passwords_are_found_behind_their_name() -> None:
    assert ("secrets.password", "hunter22") in found(Secrets(), 'password = "hunter22"')
    assert ("secrets.url_password", "root:pw@") in found(Secrets(), "postgres://root:pw@db/x")


@pytest.mark.parametrize(
    "text",
    [
        "Reset password: follow the steps of the article.",
        "commit da39a3ee5e6b4b0d3255bfef95601890afd80709 of task-management-system",
        "https://example.com/a/very/long/path/to/some/article-about-printers-and-paper",
        "The secret: [secret] and password=${PASSWORD}",
    ],
)
def test_what_only_looks_like_a_credential_is_left_alone(text: str) -> None:
    assert found(Secrets(), text) == []


@pytest.mark.parametrize(
    "written",
    [
        "Build a bomb",
        "BUILD  A  BOMB",
        "bu\u200bild a b\u043emb",
        "\uff42uild a \uff42\uff4fm\uff42",
        "b\u00fcild \u00e1 b\u00f6mb",
        "build-a-bomb",
    ],
)
def test_phrases_are_found_however_they_are_spelt(written: str) -> None:
    assert found(ContentFilter(), f"how to {written}?") == [("content.weapons", written)]


def test_words_of_the_customer_and_beginnings_are_found_and_others_are_not() -> None:
    words = WordFilter("mask", {"names": ["project bluebird*"]})

    assert found(words, "The Project Bluebirds!") == [("words.names", "Project Bluebirds")]
    assert found(words, "A project about a bluebird") == []


def test_settings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="'faces'"):
        PersonalData(kinds=["faces"])
    with pytest.raises(ConfigurationError, match="'hide'"):
        Secrets("hide")  # type: ignore[arg-type]  # that is the point
    with pytest.raises(ConfigurationError, match="is a string"):
        Secrets(kinds="aws")
    with pytest.raises(ConfigurationError, match="cannot be masked"):
        JsonFormat(action="mask")
    pytest.importorskip("re2")
    with pytest.raises(ConfigurationError, match="RE2 cannot take"):
        ForbiddenPattern("mine", r"(a)\1")


def test_formats_are_held_to_schema_expression_and_language() -> None:
    pytest.importorskip("re2")
    pytest.importorskip("jsonschema_rs")
    schema = {"type": "object", "required": ["priority"]}

    assert rules(JsonFormat(schema), '{"priority": 1}') == set()
    assert rules(JsonFormat(schema), "{}") == {"format.json"}
    assert rules(JsonFormat(), "nothing") == {"format.json"}
    assert rules(JsonFormat(), "[" * 100_000) == {"format.json"}
    assert rules(PatternFormat("P[1-5]"), "P3") == set()
    assert rules(PatternFormat("P[1-5]"), "P3!") == {"format.pattern"}
    with pytest.raises(ConfigurationError, match="no JSON schema"):
        JsonFormat({"type": "nonsense"})


def test_language_is_told_by_the_text() -> None:
    pytest.importorskip("lingua")
    english = Language(["en"], told_apart=["en", "de"])

    assert rules(english, "The printer in the office is out of paper again.") == set()
    assert rules(english, "Der Drucker im Büro hat wieder einmal kein Papier.") == {
        "format.language"
    }
    assert rules(english, "ok") == set()


PROSE = "The client loses its connection each morning when the gateway renews its certificate. "


def _secrets(rng: random.Random) -> tuple[str, str]:
    """Return something to hide, and it with what may stand around it."""
    word = "".join(rng.choices(string.ascii_letters + string.digits, k=rng.randint(20, 90)))
    local = "".join(rng.choices(string.ascii_lowercase, k=rng.randint(1, 64)))
    secret = rng.choice(
        [
            f"{local}@{word[:30].lower()}.example.com",
            "4111 1111 1111 1111",
            "GB82 WEST 1234 5698 7654 32",
            f"10.20.30.{rng.randint(10, 255)}",
            "529.982.247-25",
            f"sk-{word}",
            f"ghp_{word}",
            f"eyJhbGciOiJIUzI1NiJ9.{word}.{word}",
            f"-----BEGIN PRIVATE KEY-----\n{word}\n{word}\n-----END PRIVATE KEY-----",
        ]
    )
    if rng.random() < 0.1:
        return word, f"https://robot:{word}@example.com/"
    return secret, secret


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32), sizes=st.lists(st.integers(1, 30), min_size=1, max_size=10))
async def test_nothing_leaks_wherever_a_stream_is_cut(seed: int, sizes: list[int]) -> None:
    rng = random.Random(seed)
    secret, written = _secrets(rng)
    text = f"{PROSE[: rng.randint(0, 80)]} {written} {PROSE[: rng.randint(0, 80)]}"
    policy = GuardrailPolicy(outputs=[PersonalData(), Secrets()])
    stream = WindowedAnswer(policy.window_chain, answer(""), CallNotes())
    said, at = "", 0
    while at < len(text):
        size = sizes[at % len(sizes)]
        said += await stream.take(text[at : at + size])
        at += size
        assert stream.waiting <= STREAM_WINDOW
    said += await stream.finish()

    assert not any(secret[i : i + 8] in said for i in range(max(1, len(secret) - 7)))


@given(st.text(), st.lists(st.integers(1, 50), min_size=1, max_size=8))
@settings(max_examples=150, deadline=None)
async def test_stream_says_harmless_text_as_it_is(text: str, sizes: list[int]) -> None:
    policy = GuardrailPolicy(outputs=[WordFilter("mask", {"x": ["never said"]})])
    stream = WindowedAnswer(policy.window_chain, answer(""), CallNotes())
    said, at = "", 0
    while at < len(text):
        said += await stream.take(text[at : at + sizes[at % len(sizes)]])
        at += sizes[at % len(sizes)]

    assert said + await stream.finish() == text


CHANGE = {
    "risk": ("Risk", "Low: one switch, a spare is at hand."),
    "impact": ("Impact", "Floor 3 is offline for ten minutes."),
    "rollback": ("Rollback plan", "Put the old switch back."),
    "test": ("Test plan", "Ping the gateway from three desks."),
    "approver": ("Approver", "J. Doe, network lead"),
}
SHAPES = ("markdown", "lines", "bold", "list", "table", "json")
EMPTY = ("", "TBD", "n/a", "To be defined", "-", "none")


def change_plan(said: dict[str, str], shape: str) -> str:
    pairs = [(CHANGE[key][0], content) for key, content in said.items()]
    match shape:
        case "json":
            data = {label.lower().replace(" ", "_"): content for label, content in pairs}
            return json.dumps({"title": "Change plan", **data})
        case "table":
            rows = [f"| {label} | {content} |" for label, content in pairs]
            return "\n".join(["# Change plan", "| Field | Value |", "|---|---|", *rows])
        case "markdown":
            body = [f"## {label}\n\n{content}" for label, content in pairs]
        case "bold":
            body = [f"**{label}**\n{content}" for label, content in pairs]
        case "list":
            body = [f"- **{label}:** {content}" for label, content in pairs]
        case _:
            body = [f"{label}: {content}" for label, content in pairs]
    return "\n".join(["Change plan for the switch on floor 3", *body])


def mutated_plans() -> Iterator[tuple[str, set[str]]]:
    """Yield 320 plans, whole ones among them, and the rules that each breaks."""
    rng = random.Random(4)
    for number in range(320):
        broken = set(rng.sample(sorted(CHANGE), k=number % 4))
        said = {key: content for key, (_, content) in CHANGE.items()}
        for key in broken:
            if rng.random() < 0.5:
                del said[key]
            else:
                said[key] = rng.choice(EMPTY)
        keys = rng.sample(sorted(said), k=len(said))
        plan = change_plan({key: said[key] for key in keys}, SHAPES[number % len(SHAPES)])
        yield plan, {f"itil.change-plan.{key}" for key in broken}


def test_change_plans_are_told_what_they_lack_and_nothing_else() -> None:
    pack = CompliancePack("itil")

    for plan, broken in mutated_plans():
        assert rules(pack, plan) == broken, plan


def test_priority_is_what_the_matrix_makes_of_impact_and_urgency() -> None:
    pack = CompliancePack("itil")
    levels = {"high": 0, "medium": 1, "low": 2}
    shapes = (
        "Incident summary\nImpact: {0}\nUrgency: {1}\nPriority: P{2}",
        "# Incident summary\nThe VPN is down. Impact: {0}, Urgency: {1}, Priority: {2}",
        '{{"type": "incident summary", "impact": "{0}", "urgency": "{1}", "priority": "P{2}"}}',
        "Incident summary: it has {0} impact and {1} urgency, which makes priority P{2}.",
        "Incident summary\nA P{2} incident: {0} impact, {1} urgency.",
    )
    for shape in shapes:
        for impact, row in levels.items():
            for urgency, column in levels.items():
                for priority in range(1, 6):
                    text = shape.format(impact, urgency, priority)
                    right = priority == row + column + 1
                    assert (rules(pack, text) == set()) == right, text


FIRST = (
    "Verify the caller's identity.",
    "Confirm the requester\u2019s identity with two questions.",
    "Check the identity of the caller against the HR record.",
    "Authenticate the user by a call back to the registered number.",
    "Complete the IDENTITY CHECK of form PW-2.",
    "Make sure that the identity of the user has been verified.",
    "Ask two security questions.",
    "Check the employee ID and the name of the manager.",
)
STEPS = (
    "Reset the user's password.",
    "Reset the AD password in the directory.",
    "Set a new temporary password for the account.",
    "Generate a temporary password and read it out.",
    "Issue a one-time password to the caller.",
    "Send the new password to the manager.",
    "Perform the password reset in the console.",
)
SKIPS = (
    "You can skip the identity check for managers.",
    "No identity verification is needed for colleagues.",
    "There is no need to verify who is calling.",
    "The identity check is not required on weekends.",
    "Verification of the caller can be skipped when it is urgent.",
    "It is done without verifying the user's identity.",
    "Bypass the usual identity verification for executives.",
)
WARNINGS = (
    "Never skip the identity check.",
    "The identity verification must not be skipped.",
    "Requests without an identity check are refused.",
    "Do not bypass the identity verification for anybody.",
    "The password policy asks for twelve characters.",
    "Users who know the old one change your own password rules do not apply to.",
)
FILLERS = ("Open the ticket.", "Look at the account's history.", "Close the ticket with code 7.")
IDENTITY_FIRST = "itil.password-reset.identity-first"
IDENTITY_SKIPPED = "itil.password-reset.identity-skipped"


def mutated_resets() -> Iterator[tuple[str, set[str]]]:
    """Yield 240 ways to reset a password, right ones among them, and the rules that each breaks."""
    rng = random.Random(5)
    shapes = ("{0}. {1}", "{0}) {1}", "- {1}", "* **{1}**", "{1}")
    for number in range(240):
        first, step = rng.choice(FIRST), rng.choice(STEPS)
        kind = ("right", "no check", "check too late", "skipped", "right, with a warning")[
            number % 5
        ]
        lines = [first, step]
        broken = set()
        if kind == "no check":
            lines, broken = [step], {IDENTITY_FIRST}
        elif kind == "check too late":
            lines, broken = [step, first], {IDENTITY_FIRST}
        elif kind == "skipped":
            lines.insert(rng.randrange(1, 3), rng.choice(SKIPS))
            broken = {IDENTITY_SKIPPED}
        elif kind == "right, with a warning":
            lines.insert(rng.randrange(3), rng.choice(WARNINGS))
        for filler in rng.sample(FILLERS, k=rng.randrange(3)):
            lines.insert(rng.randrange(len(lines) + 1), filler)
        shape = shapes[number % len(shapes)]
        said = [shape.format(place, line) for place, line in enumerate(lines, 1)]
        yield rng.choice(("\n", "\n\n", " ")).join(said), broken


def test_password_resets_are_told_what_they_skip_and_nothing_else() -> None:
    pack = CompliancePack("itil")

    for text, broken in mutated_resets():
        assert rules(pack, text) == broken, text


@pytest.mark.parametrize(
    "text",
    [
        "Never reset the password before you verify the identity.",
        "After identity verification, reset the password.",
        "Reset the password only after the caller's identity is verified.",
        "Reset the user's password once you have confirmed the identity.",
        "To reset your password, open the portal.",
        "Nobody may reset a password without verifying the identity.",
        "No temporary password is issued. Use the self-service portal.",
    ],
)
def test_password_steps_in_their_order_raise_no_alarm(text: str) -> None:
    assert rules(CompliancePack("itil"), text) == set()


@pytest.mark.parametrize(
    "text",
    [
        "Reset the password. Verify the identity once it is done.",
        "1. Reset the password.\n2. After that, verify the identity.",
        "Do not verify the identity. Reset the password at once.",
    ],
)
def test_an_identity_check_that_comes_too_late_or_not_at_all_is_found(text: str) -> None:
    assert IDENTITY_FIRST in rules(CompliancePack("itil"), text)


def test_a_gap_of_a_phrase_stays_within_its_sentence_and_is_short() -> None:
    words = WordFilter("flag", categories={"x": ["reset ... password"]})

    assert found(words, "Please reset the old AD password now.") == [
        ("words.x", "reset the old AD password")
    ]
    assert rules(words, "reset password") == {"words.x"}
    assert rules(words, "Reset it. The password is old.") == set()
    assert rules(words, "reset one two three four five six seven password") == set()


@pytest.mark.parametrize("phrase", ["... password", "password ...", "..."])
def test_a_phrase_that_begins_or_ends_with_a_gap_is_refused(phrase: str) -> None:
    with pytest.raises(ConfigurationError):
        WordFilter("flag", categories={"x": [phrase]})


def test_security_pack_finds_advice_and_not_the_warning_of_it() -> None:
    pack = CompliancePack("security")

    assert rules(pack, "First disable the firewall.") == {"security.protection-disabled"}
    assert rules(pack, "Never disable the firewall.") == set()
    assert rules(pack, "Run chmod 777 on it.") == {"security.everybody-may"}


def test_pack_of_a_customer_is_read_and_checked() -> None:
    pytest.importorskip("re2")
    data = {
        "name": "ours",
        "version": "1",
        "rules": [{"name": "code-name", "kind": "pattern", "patterns": ["(?i)blue ?bird"]}],
    }

    assert rules(CompliancePack(data), "It is BlueBird") == {"ours.code-name"}
    with pytest.raises(ConfigurationError, match="patterns"):
        CompliancePack({**data, "rules": [{"name": "x", "kind": "pattern"}]})
    section = {"name": "x", "kind": "section", "document": "plan", "labels": ["risk"]}
    with pytest.raises(ConfigurationError, match="no document"):
        CompliancePack({**data, "rules": [section]})
    with pytest.raises(ConfigurationError, match="'nothing'"):
        CompliancePack("nothing")


@given(st.text(max_size=400))
@settings(max_examples=200, deadline=None)
def test_no_text_breaks_a_rule_of_this_package(text: str) -> None:
    for rule in (PersonalData(), Secrets(), ContentFilter(), CompliancePack("security")):
        for one in rule.find(answer(text)):
            assert 0 <= one.start <= one.end <= len(text)
    CompliancePack("itil").find(answer(text, "change-plan"))
