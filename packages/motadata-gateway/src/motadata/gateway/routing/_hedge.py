"""Ask a second model when the first is slow, and take whoever answers first.

Dean and Barroso, "The Tail at Scale", Communications of the ACM, 2013.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Final

from motadata.core.errors import SDKError
from motadata.gateway._call import Call, CallNotes, Request, Result
from motadata.gateway._usages import total
from motadata.gateway.routing._policy import Target


_ENDING: Final = 5.0
"""Seconds for requests that were given up to end; one that takes longer is left behind."""


async def first_answer(
    call: Call[Request],
    ask: Callable[[Call[Request], Target], Coroutine[object, object, Result]],
    targets: tuple[Target, Target],
    *,
    after: float,
) -> tuple[Result, Target] | Mapping[Target, SDKError]:
    """Return the first answer and who gave it, or why those who were asked did not.

    The call's notes say all that was sent, and what all answers that came were charged. A request
    that is given up counts as lost: its provider may charge for it.

    Args:
        call: What is asked.
        ask: Sends a request with notes of its own.
        targets: Who is asked at once, and who after a while.
        after: Seconds; when the first one fails before, the second is not asked here.
    """
    running: dict[asyncio.Task[Result], tuple[Target, CallNotes]] = {}

    def start(target: Target) -> None:
        notes = CallNotes(call_id=call.notes.call_id)
        task = asyncio.create_task(ask(replace(call, notes=notes), target), name="gateway-hedge")
        running[task] = (target, notes)

    start(targets[0])
    failures: dict[Target, SDKError] = {}
    try:
        done, _ = await asyncio.wait(running, timeout=after)
        if not done:
            start(targets[1])
        pending = set(running)
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                target, _ = running[task]
                error = task.exception()
                if error is None:
                    return task.result(), target
                if not isinstance(error, SDKError):
                    raise error
                failures[target] = error
        return failures
    finally:
        try:
            await _end(running)
        finally:
            _merge(call.notes, running)


async def _end(running: Mapping[asyncio.Task[Result], object]) -> None:
    for task in running:
        task.cancel()
        task.add_done_callback(_looked_at)
    # Each ends at its next await: a provider's request is closed, not waited for. A provider that
    # does not let go must not hold the call.
    await asyncio.wait(running, timeout=_ENDING)


def _looked_at(task: asyncio.Task[Result]) -> None:
    """Take what a request ends with: nobody else may be there any more."""
    if not task.cancelled():
        task.exception()


def _was_given_up(task: asyncio.Task[Result]) -> bool:
    return not task.done() or task.cancelled()


def _merge(
    notes: CallNotes, running: Mapping[asyncio.Task[Result], tuple[Target, CallNotes]]
) -> None:
    spent = [notes.spent]
    for task, (_, own) in running.items():
        notes.attempts += own.attempts
        notes.lost += own.lost
        if own.spent is not None:
            spent.append(own.spent)
        elif _was_given_up(task):
            notes.lost += own.attempts - own.lost
        if not _was_given_up(task) and task.exception() is None:
            notes.provider, notes.model = own.provider, own.model
            notes.price_version = own.price_version
    # What an earlier attempt was charged counts on.
    notes.spent = total(spent)
