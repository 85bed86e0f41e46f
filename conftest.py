"""Give every package the fixtures of `motadata.core.testing`, and every property its terms."""

from __future__ import annotations

import gc
import os
import sys
import warnings
from collections.abc import Generator, Iterator

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


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup() -> Generator[None]:
    """Collect the clients that litellm kept for the event loop of the test before.

    It keeps two hundred of them, and drops the oldest without closing it. Left to chance, the
    warnings of their sockets would fail whichever test runs when they are collected.
    """
    clients = getattr(sys.modules.get("litellm"), "in_memory_llm_clients_cache", None)
    if clients is not None and clients.cache_dict:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            clients.flush_cache()
            gc.collect()
    return (yield)
