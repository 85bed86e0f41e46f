"""Repeats a transaction that is known not to have been committed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from motadata.core.errors import ConfigurationError, DatabaseError, SDKError
from motadata.core.errors import ConnectionError as DatabaseConnectionError
from motadata.core.resilience import RetryPolicy, retry


ResultT = TypeVar("ResultT")

_FIRST_WAIT: Final = 0.02
_LONGEST_WAIT: Final = 1.0


@dataclass(slots=True)
class _Refused(Exception):  # noqa: N818 - not an error: it carries one past the retries
    error: SDKError


async def repeat(attempt: Callable[[], Awaitable[ResultT]], *, attempts: int) -> ResultT:
    """Await `attempt` until it succeeds, up to `attempts` times, with growing random pauses.

    Only errors of the database that say `retryable` are repeated: the server rolled back, or the
    commit was never sent. Neither is a pool that has had no connection to give for the whole
    timeout: waiting as long again would help nobody.

    Raises:
        ConfigurationError: `attempts` is below 1.
        SDKError: What the last attempt raised.
    """
    if attempts < 1:
        message = f"{attempts!r} attempts are too few."
        raise ConfigurationError(message, remedy="Pass at least 1.")

    async def guarded() -> ResultT:
        try:
            return await attempt()
        except SDKError as error:
            if isinstance(error, DatabaseError) and not _had_no_connection(error):
                raise
            raise _Refused(error) from error

    policy = RetryPolicy(attempts=attempts, base=_FIRST_WAIT, cap=_LONGEST_WAIT)
    try:
        return await retry(guarded, policy=policy)
    except _Refused as refused:
        error = refused.error
    # Outside the handler, so that the error keeps its own cause and shows no detour.
    raise error


def _had_no_connection(error: SDKError) -> bool:
    waited = isinstance(error.__cause__, TimeoutError)
    return waited and isinstance(error, DatabaseConnectionError)
