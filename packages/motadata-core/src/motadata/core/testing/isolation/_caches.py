"""A cache, and what each tenant may find in it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Final, Self, TypeVar

from motadata.core.errors import SDKError
from motadata.core.protocols import Cache
from motadata.core.tenancy import current_tenant, tenant_scope
from motadata.core.testing.isolation._operations import TENANTS, Operation, choose
from motadata.core.testing.isolation._shelf import Place, Shelf
from motadata.core.testing.isolation._site import (
    UNKNOWN,
    Leak,
    Serials,
    Unknown,
    attempt,
    in_the_end,
    intrude,
    within,
)


Answer = TypeVar("Answer")

KEYS: Final = (
    "k", "b", "b:k", "b-k", "*", ">", "a*", "?", "[ab]", "{a}:k", "generation", "tag:t",
    "cache:{a}:k", "a:a:k", "\\*", "..", "K",
)  # fmt: skip
SPACES: Final = ("default", "default", "default", "a", "a", "A", "tag", "namespace")
TAGS: Final = ("t", "*", "a:t", "k")
PATTERNS: Final = ("*", "k*", "?", "*:*", "a*", "[ab]", "{*", "*k", "**", "generation", "b-*")


class CacheSite:
    """Every method of a cache, under keys and patterns that would reach into another tenant's.

    Args:
        cache: The cache.
        name: How reports call it.
        forgetful: Whether values may be missing or old, as when its server fails meanwhile; they
            must be the tenant's own all the same.
        weight: How often it is acted on.
        overtaken: Returns how many computed values the cache has returned without storing them, as
            a shared cache does when the computation outlives its lease. A process that gets no turn
            for so long sees that on quiet servers, too.
    """

    def __init__(
        self,
        cache: Cache,
        *,
        name: str = "cache",
        forgetful: bool = False,
        weight: int = 1,
        overtaken: Callable[[], int] = lambda: 0,
    ) -> None:
        self.name = name
        self.weight = weight
        self.unknown = 0
        self._cache = cache
        self._forgetful = forgetful
        self.overtaken = overtaken
        self._serials = Serials()
        self._tags: dict[int, str] = {}
        self._shelves: defaultdict[str, Shelf]
        self._clear()
        self._verbs = (
            self._set, self._set, self._set, self._get, self._get, self._get, self._get,
            self._get_many, self._get_many, self._set_many, self._compute, self._compute,
            self._delete, self._pattern, self._pattern, self._tag, self._forget, self._intrude,
        )  # fmt: skip

    async def __aenter__(self) -> Self:
        """Do nothing: whoever made the cache has entered it."""
        return self

    async def __aexit__(self, *details: object) -> None:
        """Do nothing."""

    async def act(self, tenant: str, operation: Operation) -> None:
        """Do one operation and check its answer.

        Raises:
            Leak: It is not the tenant's own.
        """
        self._shelves[tenant].tick()
        await choose(self._verbs, operation.verb)(tenant, operation)

    async def settle(self) -> None:
        """Read every place of every tenant.

        Raises:
            Leak: One holds what is not the tenant's, or lost what nobody else may take.
        """
        for tenant, shelf in self._shelves.items():
            for space, key in shelf.places():
                try:
                    answer = await self._cache.get(key, namespace=space, tenant_id=tenant)
                except SDKError:
                    continue  # only where connections break; the next run reads again
                self._check(tenant, (space, key), answer)

    async def reset(self) -> None:
        """Forget everything of every tenant."""
        for tenant in {*TENANTS, *self._shelves}:
            await in_the_end(partial(self._cache.invalidate_tenant, tenant_id=tenant))
        self._clear()

    async def _set(self, tenant: str, operation: Operation) -> None:
        place, tag = self._place(operation), choose(TAGS, operation.other)
        value = self._value(tenant, place, tag)

        async def call(tenant_id: str | None) -> None:
            await self._cache.set(
                place[1], value, tags=(tag,), namespace=place[0], tenant_id=tenant_id
            )

        answer = await self._attempt(partial(within, tenant, operation, call), operation)
        self._wrote(tenant, place, value, answer)

    async def _get(self, tenant: str, operation: Operation) -> None:
        space, key = self._place(operation)

        async def call(tenant_id: str | None) -> object:
            return await self._cache.get(key, namespace=space, tenant_id=tenant_id)

        answer = await self._attempt(partial(within, tenant, operation, call), operation)
        self._check(tenant, (space, key), answer)

    async def _get_many(self, tenant: str, operation: Operation) -> None:
        space = choose(SPACES, operation.space)
        answer = await self._attempt(
            partial(self._cache.get_many, KEYS, namespace=space, tenant_id=tenant), operation
        )
        for key in KEYS:
            found = answer if isinstance(answer, Unknown) else answer.get(key)
            self._check(tenant, (space, key), found)

    async def _set_many(self, tenant: str, operation: Operation) -> None:
        space = choose(SPACES, operation.space)
        keys = {choose(KEYS, operation.key), choose(KEYS, operation.other)}
        values = {key: self._value(tenant, (space, key)) for key in keys}
        answer = await self._attempt(
            partial(self._cache.set_many, values, namespace=space, tenant_id=tenant), operation
        )
        for key, value in values.items():
            self._wrote(tenant, (space, key), value, answer)

    async def _compute(self, tenant: str, operation: Operation) -> None:
        place, tag = self._place(operation), choose(TAGS, operation.other)
        value = self._value(tenant, place, tag)

        async def compute() -> object:
            if current_tenant() != tenant:
                message = f"{self.name} computes for {tenant!r} in the scope {current_tenant()!r}."
                raise Leak(message)
            return value

        async def call() -> object:
            with tenant_scope(tenant):
                return await self._cache.get_or_compute(
                    place[1], compute, tags=(tag,), namespace=place[0]
                )

        before = self.overtaken()
        answer = await self._attempt(call, operation)
        if answer is UNKNOWN:
            self._wrote(tenant, place, value, answer)
            return
        if answer != value:
            self._check(tenant, place, answer)
        if isinstance(answer, dict):
            is_stored = self.overtaken() == before
            self._wrote(tenant, place, answer, answer if is_stored else UNKNOWN)

    async def _delete(self, tenant: str, operation: Operation) -> None:
        place = self._place(operation)
        answer = await self._attempt(
            partial(self._cache.delete, place[1], namespace=place[0], tenant_id=tenant), operation
        )
        expected = self._shelves[tenant].count([place])
        is_certain = not self._forgetful and expected is not None
        if is_certain and answer is not UNKNOWN and answer != (expected == 1):
            message = f"{self.name}: {tenant!r} deleted {place!r}: {answer}."
            raise Leak(message)
        self._forgot(tenant, [place], answer)

    async def _pattern(self, tenant: str, operation: Operation) -> None:
        space, pattern = choose(SPACES, operation.space), choose(PATTERNS, operation.other)
        answer = await self._attempt(
            partial(self._cache.invalidate_pattern, pattern, namespace=space, tenant_id=tenant),
            operation,
        )
        glob = re.compile(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL)
        shelf = self._shelves[tenant]
        places = list(
            shelf.places(lambda place: place[0] == space and glob.fullmatch(place[1]) is not None)
        )
        expected = shelf.count(places)
        if not self._forgetful and answer is not UNKNOWN and expected not in (None, answer):
            message = f"{self.name}: {tenant!r} forgot {answer} of {expected} by {pattern!r}."
            raise Leak(message)
        self._forgot(tenant, places, answer)

    async def _tag(self, tenant: str, operation: Operation) -> None:
        tag, shelf = choose(TAGS, operation.other), self._shelves[tenant]
        answer = await self._attempt(
            partial(self._cache.invalidate_tag, tag, tenant_id=tenant), operation
        )
        tagged = [
            place
            for place in shelf.places()
            if shelf.holds(place, lambda serial: self._tags.get(serial) == tag)
        ]
        self._forgot(tenant, tagged, answer, but=lambda serial: self._tags.get(serial) != tag)

    async def _forget(self, tenant: str, operation: Operation) -> None:
        answer = await self._attempt(
            partial(self._cache.invalidate_tenant, tenant_id=tenant), operation
        )
        self._forgot(tenant, self._shelves[tenant].places(), answer)

    async def _intrude(self, tenant: str, operation: Operation) -> None:
        del tenant
        space, key = self._place(operation)

        async def call(tenant_id: str | None) -> object:
            return await self._cache.get(key, namespace=space, tenant_id=tenant_id)

        await intrude(call, operation)

    def _clear(self) -> None:
        self._shelves = defaultdict(Shelf)

    def _place(self, operation: Operation) -> Place:
        return choose(SPACES, operation.space), choose(KEYS, operation.key)

    def _value(self, tenant: str, place: Place, tag: str | None = None) -> dict[str, object]:
        serial = self._serials.next(tenant)
        if tag is not None:
            self._tags[serial] = tag
        return {"owner": tenant, "place": "\n".join(place), "serial": serial}

    def _wrote(self, tenant: str, place: Place, value: dict[str, object], answer: object) -> None:
        serial = value["serial"]
        assert isinstance(serial, int)
        self._shelves[tenant].wrote(place, serial, answer)

    def _forgot(
        self,
        tenant: str,
        places: Iterable[Place],
        answer: object,
        *,
        but: Callable[[int], bool] = lambda _: False,
    ) -> None:
        shelf = self._shelves[tenant]
        for place in places:
            shelf.forgot(place, answer, but=but)
        if answer is UNKNOWN:
            shelf.doubt()

    async def _attempt(
        self, call: Callable[[], Coroutine[object, object, Answer]], operation: Operation
    ) -> Answer | Unknown:
        answer = await attempt(call, operation)
        self.unknown += answer is UNKNOWN
        return answer

    def _check(self, tenant: str, place: Place, answer: object) -> None:
        """Compare what was found with what the tenant may find."""
        if answer is UNKNOWN:
            return
        if answer is None:
            serial = None
        elif isinstance(answer, dict) and isinstance(answer.get("serial"), int):
            serial = answer["serial"]
            owners = {answer.get("owner"), self._serials.owner(serial)}
            if owners != {tenant} or answer.get("place") != "\n".join(place):
                message = f"{self.name}: {tenant!r} read {answer!r} at {place!r}."
                raise Leak(message)
        else:
            message = f"{self.name}: {tenant!r} read what nobody wrote at {place!r}."
            raise Leak(message)
        if not self._forgetful and not self._shelves[tenant].allows(place, serial):
            message = (
                f"{self.name}: {tenant!r} found {serial} at {place!r} instead of"
                f" {self._shelves[tenant].describe(place)}."
            )
            raise Leak(message)
