"""`@traced`, and the way of trace and tenant through tasks, threads and executors."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from motadata.core.errors import CacheError, InvalidIdentifierError
from motadata.core.observability import current_trace_id, span, traced, with_context
from motadata.core.observability._tracing import present_tenant
from motadata.core.tenancy import current_tenant, tenant_scope


Seen = tuple[str | None, str | None]


def here() -> Seen:
    return current_trace_id(), current_tenant()


@traced("sample.function")
def function(value: int, *, tenant_id: str | None = None) -> tuple[int, str | None, str | None]:
    return value, current_trace_id(), present_tenant()


@traced("sample.coroutine")
async def coroutine(value: int, *, tenant_id: str | None = None) -> tuple[int, str | None]:
    await asyncio.sleep(0)
    return value, current_trace_id()


@traced("sample.generator")
def generator(count: int) -> Iterator[int]:
    """Count up."""
    yield from range(count)


@traced("sample.async_generator")
async def async_generator(count: int) -> AsyncIterator[int]:
    for number in range(count):
        if number == 2:
            raise CacheError("Two is too many.")
        yield number


class TestTraced:
    def test_function_runs_in_a_span_for_the_tenant_of_its_keyword(self) -> None:
        value, trace_id, tenant = function(7, tenant_id="acme")

        assert (value, tenant) == (7, "acme")
        assert trace_id is not None
        assert current_trace_id() is None

    def test_keyword_that_is_no_tenant_is_an_error(self) -> None:
        with pytest.raises(InvalidIdentifierError):
            function(7, tenant_id="a b")

    async def test_coroutine_runs_in_a_span_until_its_end(self) -> None:
        with span("outer") as outer:
            assert await coroutine(7) == (7, outer.trace_id)

    def test_generator_does_not_put_its_consumer_into_its_span(self) -> None:
        seen = [(number, current_trace_id()) for number in generator(3)]

        assert seen == [(0, None), (1, None), (2, None)]

    async def test_error_of_an_async_generator_gets_the_trace(self) -> None:
        items = async_generator(5)
        got = [(await anext(items), current_trace_id()) for _ in range(2)]
        with pytest.raises(CacheError) as caught:
            await anext(items)

        assert got == [(0, None), (1, None)]
        assert caught.value.trace_id is not None

    async def test_async_generator_is_closed_with_its_span(self) -> None:
        closed = []

        @traced("sample.closing")
        async def closing() -> AsyncIterator[int]:
            try:
                yield 1
                yield 2
            finally:
                closed.append(True)

        items = closing()
        await anext(items)
        await items.aclose()  # type: ignore[attr-defined]  # it is a generator

        assert closed == [True]

    def test_function_stays_what_it_was(self) -> None:
        assert inspect.iscoroutinefunction(coroutine)
        assert inspect.isasyncgenfunction(async_generator)
        assert inspect.isgeneratorfunction(generator)
        assert (generator.__name__, generator.__doc__) == ("generator", "Count up.")


class TestContext:
    async def test_follows_tasks_and_to_thread(self) -> None:
        async def task() -> Seen:
            return here()

        with tenant_scope("acme"), span("outer") as outer:
            expected = (outer.trace_id, "acme")
            assert await asyncio.create_task(task()) == expected
            assert await asyncio.to_thread(here) == expected
            assert await asyncio.gather(task(), task()) == [expected, expected]

    async def test_is_carried_into_executors_and_threads(self) -> None:
        loop = asyncio.get_running_loop()
        got: list[Seen] = []
        with ThreadPoolExecutor(2) as pool:
            with tenant_scope("acme"), span("outer") as outer:
                carried = with_context(here)
                thread = threading.Thread(target=with_context(lambda: got.append(here())))
                assert await loop.run_in_executor(pool, here) == (None, None)
            expected = (outer.trace_id, "acme")
            assert await loop.run_in_executor(pool, carried) == expected
            assert pool.submit(carried).result(timeout=10) == expected
            assert list(pool.map(lambda _: carried(), range(20))) == [expected] * 20
            thread.start()
            await asyncio.to_thread(thread.join, 10)

        assert got == [expected]
        assert here() == (None, None)

    async def test_of_two_tenants_in_one_pool_stays_apart(self) -> None:
        loop = asyncio.get_running_loop()

        async def work(tenant: str, pool: ThreadPoolExecutor) -> set[Seen]:
            with tenant_scope(tenant), span("work") as current:
                carried = with_context(here)
                seen = {await loop.run_in_executor(pool, carried) for _ in range(50)}
                assert seen == {(current.trace_id, tenant)}
                return seen

        with ThreadPoolExecutor(2) as pool:
            one, two = await asyncio.gather(work("acme", pool), work("globex", pool))

        assert not one & two
