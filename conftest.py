"""Give every package the fixtures of `motadata.core.testing`, and every property its terms."""

from __future__ import annotations

from hypothesis import settings


pytest_plugins = ["motadata.core.testing.plugin"]

# A busy machine makes an example slow, never wrong: pytest's own timeout ends one that hangs.
settings.register_profile("motadata", deadline=None, print_blob=True)
settings.load_profile("motadata")
