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


@pytest.fixture(autouse=True)
def _sockets_that_drivers_drop(request: pytest.FixtureRequest) -> Iterator[None]:
    """Collect what drivers leave behind where a test breaks their connections.

    nats-py and asyncpg drop the sockets of connections that end while they are being made. Left to
    chance, the warning of one would fail whichever test runs when it is collected.
    """
    yield
    if "fault" in request.path.stem or "isolation_property" in request.path.stem:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
