"""Give every package the fixtures of `motadata.core.testing`, and every property its terms."""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Iterator

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
