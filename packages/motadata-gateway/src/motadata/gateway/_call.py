"""One call on its way through the gateway, and the signature of the steps that it passes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from motadata.core.models import CompletionChunk
from motadata.core.protocols import Cache, CachePolicy
from motadata.gateway._provider import Provider


Request = TypeVar("Request")
Result = TypeVar("Result")

Emit = Callable[[CompletionChunk], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Call(Generic[Request]):
    """A request with everything that the steps need to know about it.

    Attributes:
        request: What the provider is asked.
        provider: Who serves the model.
        timeout: Seconds for the answer; of a streamed one, for each part of it.
        tenant_id: As the caller gave it; within the steps behind the first, the tenant itself.
        cache: The response cache; None when there is none.
        cache_policy: What the caller wants of it.
        emit: Takes the parts of a streamed answer; None when only the whole is wanted.
    """

    request: Request
    provider: Provider
    timeout: float
    tenant_id: str | None
    cache: Cache | None
    cache_policy: CachePolicy
    emit: Emit | None = None


Proceed = Callable[[Call[Request]], Awaitable[Result]]
"""What is left of the call: the steps behind the present one."""

Step = Callable[[Call[Request], Proceed[Request, Result]], Awaitable[Result]]
"""Does its work around `await proceed(call)`: before it, after it, or instead of it."""


async def run(steps: Sequence[Step[Request, Result]], call: Call[Request]) -> Result:
    """Pass the call through the steps, the first outermost."""
    if len(steps) == 1:
        return await steps[0](call, _nothing_left)
    return await steps[0](call, lambda inner: run(steps[1:], inner))


async def _nothing_left(_call: Call[Request]) -> Result:
    message = "the last step must answer the call itself"
    raise AssertionError(message)
