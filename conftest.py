"""Give every package the fixtures of `motadata.core.testing`, and every property its terms."""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Generator, Iterator
from typing import Final

import pytest
from hypothesis import settings


pytest_plugins = ["motadata.core.testing.plugin"]

# The tests themselves run side by side: a second thread for a product of matrices costs more than
# it brings. Read when numpy is first imported, by the processes that tests start as well.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A busy machine makes an example slow, never wrong: pytest's own timeout ends one that hangs.
settings.register_profile("motadata", deadline=None, print_blob=True)
settings.load_profile("motadata")


@pytest.fixture
def drivers_drop_sockets() -> Iterator[None]:
    """Collect what drivers leave behind in a test that breaks or races their connections.

    nats-py and asyncpg drop the sockets of connections that end while they are being made, litellm
    the clients that it made twice. Left to chance, the warning of one would fail whichever test
    runs when it is collected.
    """
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


_FULL_EVERY: Final = 40
"""Tests between two full collections, each of which takes a fifth of a second."""
_RARELY: Final = 1_000
"""Collections of the middle generation until Python collects the oldest by itself."""


class BetweenTests:
    """Collects between tests what was left behind, and says at the end what that was.

    A driver's connection that ended while it was made, or one of litellm's clients, of which it
    keeps two hundred and closes none, is found when Python collects the oldest objects. In the
    middle of a test, that would fail a test that has nothing to do with it.
    """

    def __init__(self) -> None:
        self.found: list[str] = []
        self._tests = 0
        gc.set_threshold(*gc.get_threshold()[:2], _RARELY)

    def collect(self, before: str, generation: int) -> None:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always", ResourceWarning)
            gc.collect(generation)
        self.found += [f"before {before}: {warning.message}" for warning in warned]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None]:
        self.collect(item.nodeid, 1 if self._tests % _FULL_EVERY else 2)
        self._tests += 1
        return (yield)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self.collect("the end", 2)
        # A worker of pytest-xdist has no terminal: it hands over what it found.
        output: dict[str, list[str]] | None = getattr(session.config, "workeroutput", None)
        if output is not None:
            output["left_behind"] = self.found

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: object) -> None:
        self.found += getattr(node, "workeroutput", {}).get("left_behind", [])

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.found:
            terminalreporter.section("Left open, and collected between tests")
            for line in self.found:
                terminalreporter.line(line)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(BetweenTests(), "motadata-between-tests")
