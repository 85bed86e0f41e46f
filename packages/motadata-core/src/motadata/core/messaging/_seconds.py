"""The check of the times that a caller gives."""

from __future__ import annotations

import math

from motadata.core.errors import ConfigurationError


def check_seconds(*, above: float = -math.inf, **values: object) -> None:
    """Check that each value is a finite number above a bound.

    Raises:
        ConfigurationError: One is not; the message names it.
    """
    for name, value in values.items():
        if not isinstance(value, int | float) or not above < value < math.inf:
            message = f"{name}={value!r} is no number of seconds that can be waited."
            raise ConfigurationError(message, remedy="Give a finite number, such as 5.0.")
