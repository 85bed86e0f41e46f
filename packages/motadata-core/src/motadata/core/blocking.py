"""The same components without `await`, for Django, Flask and scripts, from any number of threads.

    platform = blocking(create_platform())
    with platform:
        answer = run(platform.component.knowledge_base.query("Who approves?", tenant_id="acme"))

Two forms: `run` takes one awaitable and keeps its type; `blocking` wraps an object so that all of
its coroutine methods, async iterators and async context managers become plain ones:

    database = blocking(create_database(dsn))
    with database, database.transaction("acme") as transaction:
        rows = transaction.fetch("select …")

All of it runs on one event loop in one background thread of the process. The caller's context
variables (tenant, deadline, trace) go along. A forked child starts a loop of its own; what was
opened before the fork belongs to the parent; using it in the child is an error rather than a hang.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

from motadata.core.errors import ConfigurationError


T = TypeVar("T")
ComponentT = TypeVar("ComponentT")

_PLAIN: Final = (str, bytes, int, float, bool, list, tuple, dict, set, frozenset, type(None))


class _BackgroundLoop:
    """The event loop of this process that serves callers without one; made on first use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def get(self) -> asyncio.AbstractEventLoop:
        """Return the running loop, starting its thread when there is none."""
        with self._lock:
            if self._loop is None:
                loop = asyncio.new_event_loop()
                thread = threading.Thread(
                    target=_serve, args=(loop,), name="motadata-blocking", daemon=True
                )
                thread.start()
                self._loop = loop
            return self._loop

    def forget(self) -> None:
        """Start afresh in a forked child, where the parent's thread does not exist."""
        self._lock = threading.Lock()
        self._loop = None


_background: Final = _BackgroundLoop()
os.register_at_fork(after_in_child=_background.forget)


def run(awaitable: Awaitable[T]) -> T:
    """Wait for a coroutine, or another awaitable, on the background loop and return its result.

    Interrupting the caller (Ctrl-C, a thread's exception) cancels it.

    Raises:
        ConfigurationError: Called on a thread whose own event loop runs: it would stand still. Or
            the argument cannot be awaited, such as a method that was not called, or a stream.
    """
    try:
        _refuse_on_a_loop()
    except ConfigurationError:
        if inspect.iscoroutine(awaitable):
            awaitable.close()
        raise
    loop = _background.get()
    _check_awaitable(awaitable, loop)
    result: Future[T] = Future()
    context = contextvars.copy_context()
    tasks: list[asyncio.Task[T]] = []

    def start() -> None:
        try:
            work = awaitable if inspect.iscoroutine(awaitable) else _awaited(awaitable)
            task = loop.create_task(work, context=context)
            tasks.append(task)
            task.add_done_callback(lambda done: _pass_on(done, result))
        except BaseException as error:  # noqa: BLE001 - it is the caller's, who waits for it
            result.set_exception(error)

    loop.call_soon_threadsafe(start)
    try:
        return result.result()
    except BaseException:
        if not result.done():
            loop.call_soon_threadsafe(lambda: [task.cancel() for task in tasks])
        raise


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    """Run the loop for as long as the process lives, whatever the work on it does to it."""
    while not loop.is_closed():
        try:
            loop.run_forever()
        except (SystemExit, KeyboardInterrupt):
            # A task's way out ends its loop. Its caller hears of it; the others' work goes on.
            continue


def _check_awaitable(value: object, loop: asyncio.AbstractEventLoop) -> None:
    """Say what to do with what cannot be awaited here; its kind is named, never its content."""
    kind = type(value).__name__
    if isinstance(value, asyncio.Future) and value.get_loop() is not loop:
        message = f"A {kind} of another event loop cannot be awaited here."
        raise ConfigurationError(message, remedy="Pass the coroutine itself to run(…).")
    if inspect.isawaitable(value):
        return
    if hasattr(value, "__aiter__"):
        message = f"run(…) waits for one result, and a {kind} is a stream of them."
        remedy = "Iterate over it by `for item in blocking(component).stream(…):`."
    elif hasattr(value, "__aenter__"):
        message = f"run(…) waits for a result, and a {kind} is a context manager."
        remedy = "Enter it by `with blocking(component) as opened:`."
    elif callable(value):
        name = getattr(value, "__name__", kind)
        message = f"run(…) was given {name!r} itself, which was not called."
        remedy = f"Call it: run({name}(…))."
    else:
        message = f"run(…) waits for a coroutine, and a value of type {kind} is none."
        remedy = "Use the value as it is; `blocking(component)` takes methods of both kinds."
    raise ConfigurationError(message, remedy=remedy)


def _refuse_on_a_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    message = "A blocking call was made on a thread that runs an event loop."
    raise ConfigurationError(
        message, remedy="Await the component itself, or call from asyncio.to_thread(…)."
    )


def _pass_on(task: asyncio.Task[T], result: Future[T]) -> None:
    """Give the outcome of a task to the thread that waits for it."""
    if task.cancelled():
        result.cancel()
    elif (error := task.exception()) is not None:
        result.set_exception(error)
    else:
        result.set_result(task.result())


class Blocking(Generic[ComponentT]):
    """A component whose asynchronous methods are plain ones; made by `blocking`.

    Attributes that are no methods, and methods that are not asynchronous, are the component's own.
    """

    def __init__(self, component: ComponentT) -> None:
        self._component = component
        self._process = os.getpid()

    @property
    def component(self) -> ComponentT:
        """The component itself, for `run`."""
        self._check_process()
        return self._component

    def __getattr__(self, name: str) -> Callable[..., object]:
        """Return the component's attribute of that name, made blocking when it is asynchronous."""
        attribute = getattr(self.component, name)
        if not callable(attribute):
            return _wrap(attribute)  # type: ignore[return-value]  # a property's value, as it is

        def call(*args: object, **options: object) -> object:
            self._check_process()
            _refuse_on_a_loop()
            return _wrap(attribute(*args, **options))

        return call

    def __enter__(self) -> Self:
        """Open the component on the background loop.

        Returns:
            A wrapper of what the component's own context manager gives.
        """
        opened = run(_enter(self.component))
        return self if opened is self._component else type(self)(opened)  # type: ignore[arg-type]  # a context manager may give another object

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        """Close the component."""
        return run(self.component.__aexit__(kind, error, traceback))  # type: ignore[attr-defined,no-any-return]  # checked on entering

    def __iter__(self) -> Iterator[object]:
        """Iterate over an asynchronous iterator; leaving the loop early closes it."""
        iterator: AsyncIterator[object] = aiter(self.component)  # type: ignore[arg-type]  # a TypeError says so
        try:
            while True:
                try:
                    item = run(_next(iterator))
                except StopAsyncIteration:
                    return
                yield _wrap(item)
        finally:
            close = getattr(iterator, "aclose", None)
            if close is not None:
                run(close())

    def _check_process(self) -> None:
        if self._process != os.getpid():
            message = "This component was opened before the process forked."
            raise ConfigurationError(
                message, remedy="Open it in each worker process, for instance in a post-fork hook."
            )


def blocking(component: ComponentT) -> Blocking[ComponentT]:
    """Return `component` with plain methods instead of asynchronous ones."""
    return Blocking(component)


def _wrap(value: object) -> object:
    """Await what is awaitable; wrap what has asynchronous methods; leave values alone."""
    if inspect.isawaitable(value):
        return _wrap(run(value))
    if isinstance(value, _PLAIN):
        return value
    if any(hasattr(value, name) for name in ("__aenter__", "__aiter__")) or any(
        inspect.iscoroutinefunction(getattr(type(value), name, None))
        for name in dir(type(value))
        if not name.startswith("_")
    ):
        return Blocking(value)
    return value


async def _awaited(value: Awaitable[T]) -> T:
    return await value


async def _enter(component: object) -> object:
    return await component.__aenter__()  # type: ignore[attr-defined]  # an AttributeError says so


async def _next(iterator: AsyncIterator[object]) -> object:
    return await anext(iterator)
