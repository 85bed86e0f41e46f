from __future__ import annotations

import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motadata.core.errors import ConfigurationError
from motadata.core.prompts import EstimatedTokens, TiktokenTokens, create_token_counter


ENGLISH = (
    "The change advisory board meets on Tuesdays and approves what is ready. "
    "An emergency change may be approved by the manager on duty, and is reviewed afterwards. "
) * 20


@given(text=st.text(max_size=200))
def test_estimate_is_zero_for_nothing_only_and_never_above_the_characters(text: str) -> None:
    tokens = EstimatedTokens().count(text, model="any")

    assert (tokens == 0) == (text == "")
    assert tokens <= max(1, len(text))


@given(text=st.text(max_size=100), more=st.text(max_size=100))
def test_more_text_is_never_fewer_tokens(text: str, more: str) -> None:
    counter = EstimatedTokens()

    assert counter.count(text + more, model="any") >= counter.count(text, model="any")


def test_chinese_takes_about_a_token_a_character() -> None:
    assert EstimatedTokens().count("事件管理流程", model="any") == 6


def test_estimate_follows_what_the_provider_has_counted_for_that_model_only() -> None:
    counter = EstimatedTokens()
    true_tokens = round(len(ENGLISH) / 3.2)
    for _ in range(30):
        counter.observe(ENGLISH, true_tokens, model="seen")

    assert counter.count(ENGLISH, model="seen") == pytest.approx(true_tokens, rel=0.01)
    assert counter.count(ENGLISH, model="other") == len(ENGLISH) // 4


def test_absurd_observation_does_not_spoil_the_estimate() -> None:
    counter = EstimatedTokens()
    counter.observe(ENGLISH, 10**9, model="a")
    counter.observe("short", 1, model="b")

    assert counter.count(ENGLISH, model="a") <= len(ENGLISH)
    assert counter.count(ENGLISH, model="b") == len(ENGLISH) // 4


def test_no_more_than_a_thousand_models_are_remembered() -> None:
    counter = EstimatedTokens()
    for number in range(1500):
        counter.observe(ENGLISH, len(ENGLISH) // 2, model=f"m{number}")

    assert counter.count(ENGLISH, model="m0") == len(ENGLISH) // 2
    assert counter.count(ENGLISH, model="m1499") == len(ENGLISH) // 4


def test_ratio_that_cannot_be_right_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'gpt'"):
        EstimatedTokens({"gpt": 0.0})


async def test_counter_without_a_tokenizer_is_the_estimate_that_was_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    estimate = EstimatedTokens({"claude": 3.5})
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))

    counter = await create_token_counter(estimate)

    assert counter.count(ENGLISH, model="claude") == round(len(ENGLISH) / 3.5)


@pytest.fixture
async def counter(monkeypatch: pytest.MonkeyPatch) -> TiktokenTokens:
    def refuse(*_: object) -> None:
        message = "a network call"
        raise AssertionError(message)

    pytest.importorskip("tiktoken")
    monkeypatch.setattr(socket.socket, "connect", refuse)
    counter = await create_token_counter()
    if not isinstance(counter, TiktokenTokens):
        pytest.skip("no vocabulary is here")
    return counter


async def test_openai_s_models_are_counted_exactly_and_offline(counter: TiktokenTokens) -> None:
    assert counter.count("hello world", model="gpt-4o") == 2
    assert counter.count("hello world", model="openai/gpt-4") == 2
    assert counter.count("<|endoftext|>", model="gpt-4o") > 1
    assert counter.count("", model="gpt-4o") == 0


async def test_estimate_of_english_is_near_the_count_and_not_below(counter: TiktokenTokens) -> None:
    counted = counter.count(ENGLISH, model="gpt-4o")
    estimated = EstimatedTokens().count(ENGLISH, model="gpt-4o")

    assert counted <= estimated <= 1.5 * counted


async def test_hostile_text_does_not_hold_the_caller_up(counter: TiktokenTokens) -> None:
    assert counter.count("a" * 100_000, model="gpt-4o") == 25_000


@pytest.mark.skipif(
    find_spec("tiktoken") is None or find_spec("litellm") is None, reason="needs both"
)
def test_counts_are_those_of_tiktoken_itself() -> None:
    script = """
import asyncio, os
from importlib.util import find_spec
from motadata.core.prompts import create_token_counter
counter = asyncio.run(create_token_counter())
place = find_spec("litellm").submodule_search_locations[0]
os.environ["TIKTOKEN_CACHE_DIR"] = place + "/litellm_core_utils/tokenizers"
import tiktoken
texts = ["It's 123\\r\\n\\n  déjà!", "事件 HTTPServer x=1; // ok", "  \\t end  ", "don't WON'T"]
for model in ("gpt-4", "gpt-4o"):
    for text in texts:
        expected = len(tiktoken.encoding_for_model(model).encode_ordinary(text))
        assert counter.count(text, model=model) == expected, (model, text)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr
