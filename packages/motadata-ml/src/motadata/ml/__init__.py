"""Machine learning of the Motadata AI SDK: in 0.1.0, the distribution that holds its place.

The contract is in `motadata.core`: the protocol `Predictor` and the error `MLError`. This version
trains and serves nothing of its own; the README shows how to bring a predictor that fits.
"""

from __future__ import annotations

from motadata.ml._version import __version__


__all__ = ["__version__"]
