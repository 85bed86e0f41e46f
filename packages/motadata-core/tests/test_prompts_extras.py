"""Without their extras prompts and secrets say what to install, and what needs none goes on."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from pydantic import SecretBytes

from motadata.core.errors import MissingExtraError
from motadata.core.models import Message
from motadata.core.prompts import (
    ContextWindow,
    EstimatedTokens,
    PromptTemplate,
    create_token_counter,
)
from motadata.core.security import LocalKeyManagement


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make Python say that no extra is installed."""
    absent = ("jinja2", "cryptography", "tiktoken")
    for name in [*sys.modules]:
        if name.partition(".")[0] in absent:
            monkeypatch.setitem(sys.modules, name, None)
    for name in (
        *absent,
        "jinja2.runtime",
        "jinja2.sandbox",
        "cryptography.hazmat.primitives.ciphers.aead",
    ):
        monkeypatch.setitem(sys.modules, name, None)


def test_importing_the_rooms_imports_no_driver() -> None:
    script = (
        "import sys, json, motadata.core.prompts, motadata.core.security;"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )

    roots = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert not roots & {"asyncpg", "cryptography", "jinja2", "litellm", "tiktoken"}


def test_template_without_its_extra_says_what_to_install(bare: None) -> None:
    with pytest.raises(MissingExtraError, match=r"motadata-core\[prompts\]"):
        PromptTemplate("sample", "x")


def test_secrets_without_their_extra_say_what_to_install(bare: None) -> None:
    with pytest.raises(MissingExtraError, match=r"motadata-core\[security\]"):
        LocalKeyManagement({"1": SecretBytes(bytes(32))})


async def test_windows_and_estimates_need_no_extra(bare: None) -> None:
    counter = await create_token_counter()
    built = ContextWindow(100, model="any", counter=counter).build([Message("user", "hello")])

    assert isinstance(counter, EstimatedTokens)
    assert built.tokens == 5
