"""Give every package the fixtures of `motadata.core.testing`, and every property its terms."""

from __future__ import annotations

import os

from hypothesis import settings


pytest_plugins = ["motadata.core.testing.plugin"]

# The tests themselves run side by side: a second thread for a product of matrices costs more than
# it brings. Read when numpy is first imported, by the processes that tests start as well.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A busy machine makes an example slow, never wrong: pytest's own timeout ends one that hangs.
settings.register_profile("motadata", deadline=None, print_blob=True)
settings.load_profile("motadata")
