"""The checks that the guards' settings share."""

from __future__ import annotations

import math

from motadata.core.errors import ConfigurationError


def check_positive(**values: float) -> None:
    """Check that each value is a positive, finite number.

    Raises:
        ConfigurationError: One is not; the message names it.
    """
    for name, value in values.items():
        given: object = value
        if not isinstance(given, int | float) or not 0 < given < math.inf:
            message = f"The {name.replace('_', ' ')} is {given!r}."
            raise ConfigurationError(message, remedy="Give a positive number.")


def check_finite(**values: float) -> None:
    """Check that each value is a finite number.

    Raises:
        ConfigurationError: One is not; the message names it.
    """
    for name, value in values.items():
        given: object = value
        if not isinstance(given, int | float) or not math.isfinite(given):
            message = f"The {name.replace('_', ' ')} is {given!r}."
            raise ConfigurationError(message, remedy="Give a finite number.")
