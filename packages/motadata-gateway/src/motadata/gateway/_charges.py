"""Whether a provider may charge for a call that failed."""

from __future__ import annotations

from typing import Final

from motadata.core.errors import (
    CircuitOpenError,
    ConfigurationError,
    OverloadError,
    ProviderError,
    RateLimitError,
    ValidationError,
)


_UNCHARGED: Final = (
    CircuitOpenError,
    ConfigurationError,
    OverloadError,
    RateLimitError,
    ValidationError,
)


def may_be_charged(error: BaseException) -> bool:
    """Tell whether a provider may charge for a call that ended so.

    It does not when it answered with an error, or was never asked. It may when its answer was late,
    was cut off, or nobody waited for it any more.
    """
    if isinstance(error, ProviderError):
        return error.status is None
    return not isinstance(error, _UNCHARGED)
