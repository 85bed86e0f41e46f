"""Cases of the cache's conformance kit: one computation for all who wait, and their time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from contextvars import Context, copy_context
from typing import Final

import pytest

from motadata.core.errors import DeadlineExceededError
from motadata.core.protocols import Cache
from motadata.core.resilience import deadline_scope, remaining, time_limit


_SHORT: Final = 0.3
_LONG: Final = 60.0
_LONGER: Final = 600.0
_PATIENCE: Final = 10.0


class CacheComputationCases:
    """What every implementation does about values that are computed; of `CacheConformance`."""

    async def test_computed_value_is_stored(self, cache: Cache) -> None:
        first = await cache.get_or_compute("key", _one, tenant_id="acme")
        second = await cache.get_or_compute("key", _fail, tenant_id="acme")

        assert (first, second) == (1, 1)
        assert await cache.get("key", tenant_id="globex") is None

    async def test_computed_none_is_returned_and_not_stored(self, cache: Cache) -> None:
        assert await cache.get_or_compute("key", _none, tenant_id="acme") is None
        assert await cache.get_or_compute("key", _one, tenant_id="acme") == 1

    async def test_one_computation_serves_all_who_wait(self, cache: Cache) -> None:
        started = 0
        gate = asyncio.Event()

        async def compute() -> object:
            nonlocal started
            started += 1
            await gate.wait()
            return started

        waiting = [
            asyncio.create_task(cache.get_or_compute("key", compute, tenant_id="acme"))
            for _ in range(20)
        ]
        await _turns()
        gate.set()

        assert await asyncio.gather(*waiting) == [1] * 20

    async def test_tenants_compute_for_themselves(self, cache: Cache) -> None:
        gate = asyncio.Event()

        async def compute(value: str) -> object:
            await gate.wait()
            return value

        ours = asyncio.create_task(
            cache.get_or_compute("key", lambda: compute("ours"), tenant_id="acme")
        )
        theirs = asyncio.create_task(
            cache.get_or_compute("key", lambda: compute("theirs"), tenant_id="globex")
        )
        await _turns()
        gate.set()

        assert (await ours, await theirs) == ("ours", "theirs")

    async def test_error_reaches_all_who_wait_and_is_not_stored(self, cache: Cache) -> None:
        waiting = [
            asyncio.create_task(cache.get_or_compute("key", _fail, tenant_id="acme"))
            for _ in range(5)
        ]
        results = await asyncio.gather(*waiting, return_exceptions=True)

        assert [type(result) for result in results] == [LookupError] * 5
        assert await cache.get_or_compute("key", _one, tenant_id="acme") == 1

    async def test_cancelling_one_who_waits_leaves_the_others_their_value(
        self, cache: Cache
    ) -> None:
        gate = asyncio.Event()

        async def compute() -> object:
            await gate.wait()
            return "value"

        first, second = (
            asyncio.create_task(cache.get_or_compute("key", compute, tenant_id="acme"))
            for _ in range(2)
        )
        await _turns()
        first.cancel()
        await _turns()
        gate.set()

        assert await second == "value"
        with pytest.raises(asyncio.CancelledError):
            await first

    async def test_computation_is_cancelled_when_nobody_waits_any_more(self, cache: Cache) -> None:
        started, ended = asyncio.Event(), asyncio.Event()

        async def compute() -> object:
            started.set()
            try:
                return await asyncio.Event().wait()
            finally:
                ended.set()

        waiting = [
            asyncio.create_task(cache.get_or_compute("key", compute, tenant_id="acme"))
            for _ in range(3)
        ]
        await started.wait()
        await _turns()
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)

        assert ended.is_set()
        assert await cache.get_or_compute("key", _one, tenant_id="acme") == 1

    @pytest.mark.parametrize("how", ["delete", "pattern", "tag", "tenant", "set"])
    async def test_value_that_was_overtaken_while_computed_is_not_stored(
        self, cache: Cache, how: str
    ) -> None:
        started, gate = asyncio.Event(), asyncio.Event()

        async def compute() -> object:
            started.set()
            await gate.wait()
            return "stale"

        waiting = asyncio.create_task(
            cache.get_or_compute("key", compute, tags=["doc"], tenant_id="acme")
        )
        await started.wait()
        match how:
            case "delete":
                await cache.delete("key", tenant_id="acme")
            case "pattern":
                await cache.invalidate_pattern("k*", tenant_id="acme")
            case "tag":
                await cache.invalidate_tag("doc", tenant_id="acme")
            case "tenant":
                await cache.invalidate_tenant(tenant_id="acme")
            case _:
                await cache.set("key", "fresh", tenant_id="acme")
        gate.set()

        assert await waiting == "stale"
        assert await cache.get("key", tenant_id="acme") == ("fresh" if how == "set" else None)

    async def test_computation_has_the_deadline_of_who_waits_longest(self, cache: Cache) -> None:
        work = _Work()

        first = work.asked_for(cache, _LONG)
        await work.started.wait()
        alone = work.left()
        second = work.asked_for(cache, _LONGER)
        await _until(lambda: _LONG < (work.left() or 0.0) <= _LONGER)
        third = work.asked_for(cache, None)
        await _until(lambda: work.left() is None)
        third.cancel()
        await _until(lambda: _LONG < (work.left() or 0.0) <= _LONGER)
        second.cancel()
        await _until(lambda: 0.0 < (work.left() or 0.0) <= _LONG)
        work.gate.set()

        assert await first == "value"
        assert alone is not None
        assert 0.0 < alone <= _LONG
        await asyncio.wait((second, third))

    async def test_computation_goes_on_waiting_when_who_came_first_has_left(
        self, cache: Cache
    ) -> None:
        work = _Work()

        first = work.asked_for(cache, _SHORT)
        await work.started.wait()
        second = work.asked_for(cache, _LONG)
        await _until(lambda: _SHORT < (work.left() or 0.0) <= _LONG)
        with pytest.raises(DeadlineExceededError):
            await first
        work.gate.set()

        assert await second == "value"

    async def test_failure_for_want_of_time_is_not_that_of_who_has_more(self, cache: Cache) -> None:
        work = _Work()

        async def compute() -> object:
            allowed = remaining()
            await work.compute()
            if allowed is None or allowed <= _SHORT:
                message = "The time that there was at the beginning is over."
                raise DeadlineExceededError(message)
            return "value"

        first = work.asked_for(cache, _SHORT, compute)
        await work.started.wait()
        second = work.asked_for(cache, _LONG, compute)
        await _until(lambda: _SHORT < (work.left() or 0.0) <= _LONG)
        with pytest.raises(DeadlineExceededError):
            await first
        work.gate.set()

        assert await second == "value"


class _Work:
    """A computation that waits for a gate, within its deadline."""

    def __init__(self) -> None:
        self.started, self.gate = asyncio.Event(), asyncio.Event()
        self._within: Context | None = None

    async def compute(self) -> object:
        self._within = copy_context()
        self.started.set()
        async with time_limit(None, what="the gate"):
            await self.gate.wait()
        return "value"

    def left(self) -> float | None:
        """Return what the computation would be told now."""
        assert self._within is not None
        return self._within.run(remaining)

    def asked_for(
        self,
        cache: Cache,
        seconds: float | None,
        compute: Callable[[], Awaitable[object]] | None = None,
    ) -> asyncio.Task[object]:
        """Have a caller ask for it who waits for so long."""

        async def ask() -> object:
            with deadline_scope(seconds) if seconds is not None else nullcontext():
                return await cache.get_or_compute("key", compute or self.compute, tenant_id="acme")

        return asyncio.create_task(ask())


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(_PATIENCE):
        while not holds():  # noqa: ASYNC110 - the implementation has no event to wait for
            await asyncio.sleep(0)


async def _one() -> object:
    return 1


async def _none() -> object:
    return None


async def _fail() -> object:
    message = "nothing to compute from"
    raise LookupError(message)


async def _turns() -> None:
    """Let every task that can run come to where it waits."""
    for _ in range(10):
        await asyncio.sleep(0)
