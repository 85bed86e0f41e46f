"""Agents of the Motadata AI SDK: in 0.1.0, the distribution that holds their place.

The contract is in `motadata.core`: the protocols `Agent` and `Memory`, the value `TaskResult`, and
the errors below `AgentError`. This version has no agent of its own; the README shows how to bring
one that fits.
"""

from __future__ import annotations

from motadata.agents._version import __version__


__all__ = ["__version__"]
