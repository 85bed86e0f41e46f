"""How many calls at once a dependency bears, found out from how long they take."""

from __future__ import annotations

from typing import Final


_DRIFT: Final = 1.001
"""The shortest latency grows by this with each call, so that a dependency that got slower for good
is not squeezed for ever."""

_TOLERANCE: Final = 1.5
"""How many times the shortest latency counts as no queueing at all."""


class Gradient:
    """The gradient rule of Netflix' concurrency-limits (2018): `limit · gradient + √limit`.

    The gradient is the shortest latency over the present one. The limit grows while calls take
    about as long as the fastest recent ones and shrinks as they queue up behind each other.
    Failures of the kind that overload causes take a tenth off.
    """

    __slots__ = ("_largest", "_shortest", "_smallest", "_smoothing", "_value")

    def __init__(
        self, *, initial: float, smallest: float, largest: float, smoothing: float
    ) -> None:
        self._value = initial
        self._smallest = smallest
        self._largest = largest
        self._smoothing = smoothing
        self._shortest = float("inf")

    @property
    def value(self) -> int:
        """How many calls may run at once."""
        return int(self._value)

    def succeeded(self, latency: float, *, saturated: bool) -> None:
        """Learn from a call that took `latency` seconds, with many beside it when `saturated`."""
        latency = max(latency, 1e-6)
        self._shortest = min(latency, self._shortest * _DRIFT)
        if not saturated and latency <= 2 * self._shortest:
            return
        gradient = min(1.0, max(0.5, _TOLERANCE * self._shortest / latency))
        target = self._value * gradient + self._value**0.5
        self._become((1 - self._smoothing) * self._value + self._smoothing * target)

    def failed(self) -> None:
        """Learn from a call that overload made fail."""
        self._become(self._value * 0.9)

    def _become(self, value: float) -> None:
        self._value = min(self._largest, max(self._smallest, value))
