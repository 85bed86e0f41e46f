from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Self

import pytest

from motadata.core.blocking import _background, blocking, run
from motadata.core.cache import create_memory_cache
from motadata.core.errors import ConfigurationError, TenantRequiredError
from motadata.core.tenancy import current_tenant, tenant_scope


class Component:
    """Counts what happens to it, on which thread."""

    def __init__(self) -> None:
        self.open = False
        self.closed_streams = 0

    async def __aenter__(self) -> Self:
        self.open = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self.open = False

    async def whose(self) -> str:
        await asyncio.sleep(0)
        return str(current_tenant())

    async def thread(self) -> str:
        return threading.current_thread().name

    async def fail(self) -> None:
        message = "as asked"
        raise ConfigurationError(message)

    async def stream(self, count: int) -> AsyncIterator[int]:
        try:
            for number in range(count):
                await asyncio.sleep(0)
                yield number
        finally:
            self.closed_streams += 1

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Component]:
        yield self

    def name(self) -> str:
        return "plain"


def test_coroutine_methods_are_plain_ones() -> None:
    cache = blocking(create_memory_cache())

    cache.set("key", [1, 2], tenant_id="acme")

    assert cache.get("key", tenant_id="acme") == [1, 2]
    assert cache.get("key", tenant_id="beta") is None


def test_run_keeps_the_type_of_its_coroutine() -> None:
    name: str = run(Component().thread())

    assert name == "motadata-blocking"


def test_the_callers_tenant_goes_along() -> None:
    with tenant_scope("acme"):
        assert blocking(Component()).whose() == "acme"


def test_an_operation_without_tenant_is_refused_as_ever() -> None:
    with pytest.raises(TenantRequiredError):
        blocking(create_memory_cache()).get("key")


def test_errors_reach_the_caller_as_they_are() -> None:
    with pytest.raises(ConfigurationError, match="as asked"):
        blocking(Component()).fail()


def test_many_threads_each_keep_their_tenant() -> None:
    component = blocking(Component())

    def whose(number: int) -> tuple[str, object]:
        with tenant_scope(f"tenant-{number}") as tenant:
            return tenant, component.whose()

    with ThreadPoolExecutor(16) as threads:
        pairs = list(threads.map(whose, range(300)))

    assert all(expected == got for expected, got in pairs)


def test_a_component_opens_and_closes_with_a_plain_with() -> None:
    inner = Component()

    with blocking(inner):
        assert inner.open

    assert not inner.open


def test_an_async_context_manager_gives_a_blocking_object() -> None:
    with blocking(Component()).session() as session:
        assert session.thread() == "motadata-blocking"


def test_an_async_iterator_is_a_plain_one_and_is_closed_when_left_early() -> None:
    inner = Component()

    assert list(blocking(inner).stream(3)) == [0, 1, 2]
    for number in blocking(inner).stream(1_000):
        if number == 2:
            break

    assert inner.closed_streams == 2


def test_plain_methods_stay_as_they_are() -> None:
    assert blocking(Component()).name() == "plain"


async def test_a_call_from_a_running_event_loop_is_refused_instead_of_blocking_it() -> None:
    with pytest.raises(ConfigurationError, match="event loop"):
        blocking(Component()).whose()


class Later:
    """Awaitable, and no coroutine."""

    def __await__(self) -> Generator[None, None, str]:
        yield from asyncio.sleep(0).__await__()
        return "done"


def test_run_takes_any_awaitable() -> None:
    result: str = run(Later())

    assert result == "done"


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("given", "advice"),
    [
        (create_memory_cache().get, r"Call it: run\(get\("),
        (Component().stream(3), "for item in blocking"),
        (Component(), "with blocking"),
        (5, "type int"),
        (None, "type NoneType"),
    ],
    ids=["method", "stream", "component", "number", "nothing"],
)
def test_run_refuses_at_once_what_cannot_be_awaited(given: object, advice: str) -> None:
    with pytest.raises(ConfigurationError, match=advice):
        run(given)  # type: ignore[arg-type]  # that is the point


@pytest.mark.timeout(20)
def test_run_refuses_what_belongs_to_another_loop() -> None:
    loop = asyncio.new_event_loop()
    try:
        with pytest.raises(ConfigurationError, match="another event loop"):
            run(loop.create_future())
    finally:
        loop.close()


@pytest.mark.timeout(20)
def test_a_coroutine_that_was_awaited_already_is_an_error_and_no_hang() -> None:
    coroutine = Component().thread()
    run(coroutine)

    with pytest.raises(RuntimeError, match="already awaited"):
        run(coroutine)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("way_out", [SystemExit, KeyboardInterrupt])
def test_work_that_asks_the_process_to_end_reaches_its_caller_and_spares_the_others(
    way_out: type[BaseException],
) -> None:
    async def leave() -> None:
        raise way_out

    with pytest.raises(way_out):
        run(leave())

    assert run(Component().thread()) == "motadata-blocking"


@pytest.mark.timeout(20)
def test_a_loop_that_refuses_a_task_fails_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(loop: object, coroutine: object, **_: object) -> None:
        coroutine.close()  # type: ignore[attr-defined]  # it is a coroutine
        message = "no task"
        raise OSError(message)

    async def with_factory(factory: object) -> None:
        asyncio.get_running_loop().set_task_factory(factory)  # type: ignore[arg-type]

    run(with_factory(refuse))
    loop = _background.get()
    try:
        with pytest.raises(OSError, match="no task"):
            run(Later())
    finally:
        loop.call_soon_threadsafe(loop.set_task_factory, None)

    assert run(Later()) == "done"


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_has_a_loop_of_its_own_and_may_not_use_the_parents_component() -> None:
    component = blocking(Component())
    assert component.thread() == "motadata-blocking"
    child = os.fork()
    if child == 0:
        try:
            component.thread()
        except ConfigurationError:
            os._exit(0 if blocking(Component()).thread() == "motadata-blocking" else 2)
        os._exit(1)

    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
