"""The fixture of the scripted OpenAI-compatible server: one process a test run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest


if TYPE_CHECKING:
    from motadata.core.testing.openai_server import OpenAIServer


@pytest.fixture(scope="session")
def openai_server_process() -> Iterator[OpenAIServer]:
    from motadata.core.testing.openai_server import OpenAIServer

    with OpenAIServer() as server:
        yield server


@pytest.fixture
def openai_server(openai_server_process: OpenAIServer) -> OpenAIServer:
    """A server that speaks OpenAI's interface by script; each test finds it without one."""
    openai_server_process.reset()
    return openai_server_process
