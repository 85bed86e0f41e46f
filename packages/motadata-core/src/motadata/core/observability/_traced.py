"""The decorator form of a span, for functions, coroutines and generators of both kinds."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, closing
from functools import wraps
from typing import ParamSpec, TypeVar, cast

from motadata.core.observability._tracing import Attribute, Span, SpanKind, span
from motadata.core.tenancy import TenantId


Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def traced(
    name: str, *, kind: SpanKind = "internal", **facts: Attribute
) -> Callable[[Callable[Parameters, Result]], Callable[Parameters, Result]]:
    """Time each call of a function in a span of that name.

        @traced("rag.rerank", model="minilm")
        async def rerank(self, passages: Sequence[Passage], *, tenant_id: str | None = None): …

    A coroutine's span ends with its last await, a generator's when it is exhausted or closed; what
    is sent into a generator does not arrive. No argument is noted but the keyword `tenant_id`.

    Args:
        name: `component.operation`; one of few.
        kind: As for `span`.
        facts: What is true of every call.
    """

    def decorate(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        def timed(kwargs: dict[str, object], *, current: bool = True) -> Span:
            tenant = cast("str | None", kwargs.get("tenant_id"))
            checked = None if tenant is None else TenantId(tenant)
            return span(name, facts, kind=kind, tenant_id=checked, current=current)

        wrapper: object
        if inspect.isasyncgenfunction(function):
            wrapper = _of_async_generator(function, timed)
        elif inspect.isgeneratorfunction(function):
            wrapper = _of_generator(function, timed)
        elif inspect.iscoroutinefunction(function):
            wrapper = _of_coroutine(function, timed)
        else:
            wrapper = _of_function(function, timed)
        return cast("Callable[Parameters, Result]", wrapper)

    return decorate


def _of_function(
    function: Callable[..., Result], timed: Callable[..., Span]
) -> Callable[..., Result]:
    @wraps(function)
    def wrapper(*args: object, **kwargs: object) -> Result:
        with timed(kwargs):
            return function(*args, **kwargs)

    return wrapper


def _of_coroutine(
    function: Callable[..., Awaitable[Result]], timed: Callable[..., Span]
) -> Callable[..., Awaitable[Result]]:
    @wraps(function)
    async def wrapper(*args: object, **kwargs: object) -> Result:
        with timed(kwargs):
            return await function(*args, **kwargs)

    return wrapper


# The body of a generator runs in its consumer's context, which must not inherit the span.


def _of_generator(
    function: Callable[..., Iterator[Result]], timed: Callable[..., Span]
) -> Callable[..., Iterator[Result]]:
    @wraps(function)
    def wrapper(*args: object, **kwargs: object) -> Iterator[Result]:
        with timed(kwargs, current=False), closing(function(*args, **kwargs)) as items:  # type: ignore[type-var]  # a generator has close
            yield from items

    return wrapper


def _of_async_generator(
    function: Callable[..., AsyncIterator[Result]], timed: Callable[..., Span]
) -> Callable[..., AsyncIterator[Result]]:
    @wraps(function)
    async def wrapper(*args: object, **kwargs: object) -> AsyncIterator[Result]:
        with timed(kwargs, current=False):
            async with aclosing(function(*args, **kwargs)) as items:  # type: ignore[type-var]  # a generator has aclose
                async for item in items:
                    yield item

    return wrapper
