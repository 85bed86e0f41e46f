"""What one tenant may find in a cache, place by place."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from motadata.core.testing.isolation._site import UNKNOWN, Cell


Place = tuple[str, str]
"""Namespace and key."""

_SETTLING: Final = 50
"""Operations of the tenant after which a call that was given up has been carried out, if ever."""


class Shelf:
    """The places of one tenant, each with what its own writes and cancelled writes may have left.

    A cache may forget, so a write of unknown outcome may also have left nothing; an invalidation of
    unknown outcome may still take what is written after it.
    """

    def __init__(self) -> None:
        self._cells: defaultdict[Place, Cell] = defaultdict(Cell)
        self._unsure: dict[Place, int] = {}
        self._clock = 0
        self._doubt_until = 0

    def tick(self) -> None:
        """Count an operation of the tenant."""
        self._clock += 1

    def places(self, holds: Callable[[Place], bool] = lambda _: True) -> Iterator[Place]:
        """Yield the places that were ever written or read, and that fit."""
        return (place for place in list(self._cells) if holds(place))

    def count(self, places: Sequence[Place]) -> int | None:
        """Return how many of the places hold something, None where that is in doubt."""
        cells = [self._cells[place] for place in places]
        if self._clock < self._doubt_until or any(cell.late or len(cell.now) > 1 for cell in cells):
            return None
        return sum(cell.now != {None} for cell in cells)

    def holds(self, place: Place, serials: Callable[[int], bool]) -> bool:
        """Tell whether the place may hold one of these writes."""
        return any(serial is not None and serials(serial) for serial in self._cells[place].now)

    def wrote(self, place: Place, serial: int, answer: object) -> None:
        """Note a write."""
        cell = self._cells[place]
        if answer is UNKNOWN:
            cell.late |= {serial, None}
            self._unsure[place] = self._clock
            return
        if self._clock - self._unsure.get(place, 0) > _SETTLING:
            cell.late.clear()
        cell.now = {serial}
        if self._clock < self._doubt_until:
            cell.late.add(None)
            self._unsure[place] = self._clock

    def forgot(self, place: Place, answer: object, *, but: Callable[[int], bool]) -> None:
        """Note that the place was emptied, except of the writes that are kept."""
        cell = self._cells[place]
        if answer is UNKNOWN:
            cell.late.add(None)
            self._unsure[place] = self._clock
        else:
            kept = {serial for serial in cell.now if serial is not None and but(serial)}
            cell.now = kept | {None}

    def doubt(self) -> None:
        """Note that an invalidation may still be carried out."""
        self._doubt_until = self._clock + _SETTLING

    def allows(self, place: Place, serial: int | None) -> bool:
        """Tell whether the place may hold this."""
        return self._cells[place].allows(serial)

    def describe(self, place: Place) -> str:
        """Say what the place may hold."""
        return repr(self._cells[place])
