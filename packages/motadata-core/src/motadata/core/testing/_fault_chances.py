"""Where in a connection the fault proxy's faults fall: seeded, and placed by position."""

from __future__ import annotations

import random
from dataclasses import dataclass, field


class Places:
    """Random positions in a stream of bytes, so many bytes apart on average."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)  # noqa: S311 - faults to repeat, not secrets
        self._mean: float | None = None
        self._left = 0

    def within(self, size: int, mean: float | None) -> list[int]:
        """Return the positions that fall into the next `size` bytes; `mean` may change between."""
        if mean != self._mean:
            self._mean = mean
            self._left = self._gap()
        found: list[int] = []
        if mean is None:
            return found
        position = self._left
        while position < size:
            found.append(position)
            position += 1 + self._gap()
        self._left = position - size
        return found

    def _gap(self) -> int:
        return 0 if self._mean is None else int(self._random.expovariate(1 / self._mean))


@dataclass(frozen=True, slots=True)
class Chances:
    """The random choices of one direction of one connection, each kind from its own source.

    One source for all would let a choice of one kind move those of the others.
    """

    name: str
    flips: Places = field(init=False)
    cuts: Places = field(init=False)
    bits: random.Random = field(init=False)
    sizes: random.Random = field(init=False)
    delays: random.Random = field(init=False)

    def __post_init__(self) -> None:
        for kind in ("flips", "cuts"):
            object.__setattr__(self, kind, Places(f"{self.name}:{kind}"))
        for kind in ("bits", "sizes", "delays"):
            object.__setattr__(self, kind, random.Random(f"{self.name}:{kind}"))  # noqa: S311


def pieces(data: bytes, largest: int | None, source: random.Random) -> list[bytes]:
    """Cut bytes into pieces of 1 to `largest`; None leaves them whole."""
    if largest is None:
        return [data] if data else []
    torn, start = [], 0
    while start < len(data):
        end = start + source.randint(1, max(1, largest))
        torn.append(data[start:end])
        start = end
    return torn
