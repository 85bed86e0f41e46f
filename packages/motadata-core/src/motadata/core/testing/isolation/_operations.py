"""What tenants do, as plain numbers; each site reads them as its own verbs and names."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar


if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from motadata.core.testing.isolation._world import World

Item = TypeVar("Item")

TENANTS: Final = ("a", "A", "ab", "a-b", "a_b", "aa", "generation", "tag", "-", "b")
"""Prefixes and case variants of each other, and words of the key grammar."""

INTRUDERS: Final = (
    "*",
    "a:b",
    "a.b",
    ">",
    "a*",
    "{a}",
    "",
    "a b",
    "a\n",
    "a'--",
    "\uff41",
    "x" * 65,
)
"""What is no tenant id, and would be a wildcard or a separator if it got through."""

_TURNS: Final = 40
"""How many turns of the loop a cancelled call lives at most."""
_USUAL_TURNS: Final = 4


@dataclass(frozen=True, slots=True)
class Operation:
    """One act of one tenant; a number stands for whatever a site has at that place of its list.

    Attributes:
        site: Position of the site in the world.
        tenant: Who acts.
        verb: What is done.
        key: On what.
        space: In which namespace, of which type, for which agent.
        other: Everything else: the victim, the pattern, the tag, the intruder.
        cancel_after: Turns of the event loop after which the caller gives up; None waits.
    """

    site: int
    tenant: int
    verb: int
    key: int = 0
    space: int = 0
    other: int = 0
    cancel_after: int | None = None


def choose(items: Sequence[Item], number: int) -> Item:
    """Return the item that a number stands for."""
    return items[number % len(items)]


def random_operations(
    world: World, *, seed: int, count: int, cancelled: float = 0.2
) -> Iterator[Operation]:
    """Yield operations of all tenants, the same for one seed; sites come by their weight.

    Args:
        world: Whose sites and tenants.
        seed: Of all choices.
        count: How many.
        cancelled: Share of calls whose caller gives up while they are in flight.
    """
    source = random.Random(seed)  # noqa: S311 - operations to repeat, not secrets
    sites = _weighted(world)
    number = source.randrange
    for _ in range(count):
        yield Operation(
            site=choose(sites, number(1 << 16)),
            tenant=number(len(world.tenants)),
            verb=number(1 << 16),
            key=number(1 << 16),
            space=number(1 << 16),
            other=number(1 << 16),
            cancel_after=_soon(source) if source.random() < cancelled else None,
        )


def programs(world: World, *, longest: int = 60) -> SearchStrategy[list[Operation]]:
    """Return a Hypothesis strategy of short sequences that shrink to the fewest operations."""
    from hypothesis import strategies as st

    small = st.integers(0, 60)
    operation = st.builds(
        Operation,
        site=st.sampled_from(_weighted(world)),
        tenant=st.integers(0, len(world.tenants) - 1),
        verb=small,
        key=small,
        space=small,
        other=small,
        cancel_after=st.none() | st.integers(0, _TURNS),
    )
    return st.lists(operation, min_size=1, max_size=longest)


def _soon(source: random.Random) -> int:
    """Draw when a call is given up: mostly within the first turns, where it is in flight."""
    return min(_TURNS, 1 + int(source.expovariate(1 / _USUAL_TURNS)))


def _weighted(world: World) -> list[int]:
    return [index for index, site in enumerate(world.sites) for _ in range(site.weight)]
