"""Turns what the driver and the server raise into the SDK's errors, without values of arguments."""

from __future__ import annotations

import re
from typing import Final

from motadata.core.database._driver import damaged_answers, load_driver
from motadata.core.errors import ConnectionError as DatabaseConnectionError
from motadata.core.errors import DatabaseError, DeadlineExceededError, QueryError
from motadata.core.resilience import remaining


_CONNECTION_CLASSES: Final = ("08", "53300", "57P")
"""SQLSTATE prefixes of a server that is gone, full, starting or shutting down."""

_TIMED_OUT: Final = "57014"
"""SQLSTATE of a statement that was ended: by its timeout, or by whoever asked for it."""

_CLOCKS_DIFFER: Final = 0.005
"""Seconds before a deadline at which a server may have seen its end: it counts by its own clock."""

_LASTING: Final = ("28", "3D", "42")
"""SQLSTATE classes of a connection refused for reasons that time does not heal."""

_SPEAKING_CLASSES: Final = ("42", "0A", "25", "28", "3D", "3F", "54", "55", "57")
"""SQLSTATE classes whose messages speak of names and syntax, never of an argument's value."""

_RETRYABLE: Final = frozenset({"40001", "40P01", "55P03"})
"""Serialization failure, deadlock, lock not available: the server rolled all of it back."""


def translate(
    error: BaseException, *, tenant_id: str | None = None
) -> DatabaseError | DeadlineExceededError:
    """Return the error to raise for one of the driver's; the caller chains it with `from`."""
    driver = load_driver()
    state = str(getattr(error, "sqlstate", None) or "")
    if isinstance(error, TimeoutError) or state == _TIMED_OUT:
        return _too_slow(tenant_id)
    # The driver raises its own DataError, with the value in it, for an argument it cannot encode;
    # only what comes from the server has a severity.
    if isinstance(error, driver.DataError) and error.severity is None:
        return _unfit_argument(error, tenant_id=tenant_id)
    if isinstance(error, driver.PostgresError) and state:
        if state.startswith(_CONNECTION_CLASSES):
            return unreachable(error, tenant_id=tenant_id)
        return _refused(error, state, tenant_id=tenant_id)
    if is_outdated(error):
        return QueryError(
            "A type of the database changed while the connection was open.",
            remedy="Repeat the transaction.",
            tenant_id=tenant_id,
            retryable=True,
        )
    is_unfit = isinstance(error, ValueError | TypeError | OverflowError)
    if is_unfit and not isinstance(error, damaged_answers()):
        return _unfit_argument(error, tenant_id=tenant_id)
    if isinstance(error, driver.InterfaceError) and "another operation" in str(error):
        return QueryError(
            "Two statements ran at the same time in one transaction.",
            remedy="Await each statement before the next, or open a transaction for each task.",
            tenant_id=tenant_id,
        )
    return unreachable(error, tenant_id=tenant_id)


def _too_slow(tenant_id: str | None) -> QueryError | DeadlineExceededError:
    left = remaining()
    if left is not None and left <= _CLOCKS_DIFFER:
        return DeadlineExceededError(
            "The statement did not finish in the time that the caller allowed.",
            remedy="Allow more time, or make it cheaper.",
            tenant_id=tenant_id,
        )
    return QueryError(
        "The statement did not finish in time.",
        remedy="Make it cheaper, or pass a longer timeout=….",
        tenant_id=tenant_id,
    )


def message_of(error: BaseException) -> str:
    """Return the server's message alone: its DETAIL quotes rows."""
    return str(getattr(error, "message", None) or type(error).__name__)


def unreachable(error: BaseException, *, tenant_id: str | None = None) -> DatabaseConnectionError:
    """Return the error for a connection that cannot be had, or broke."""
    state = getattr(error, "sqlstate", None)
    reason = f"{type(error).__name__}, SQLSTATE {state}" if state else type(error).__name__
    return DatabaseConnectionError(
        f"The database cannot be reached ({reason}).",
        remedy="Check that the server runs, accepts this role, and has connections left.",
        tenant_id=tenant_id,
        retryable=not str(state or "").startswith(_LASTING),
    )


def is_outdated(error: BaseException | None) -> bool:
    """Tell whether a migration outdated what the connection had prepared: the next try works.

    Args:
        error: The driver's; where ours is caught, its cause.
    """
    driver = load_driver()
    kinds = driver.InvalidCachedStatementError | driver.OutdatedSchemaCacheError
    # The last: somebody deallocated the prepared statements of the session.
    return isinstance(error, kinds | driver.InvalidSQLStatementNameError)


def _refused(error: BaseException, state: str, *, tenant_id: str | None) -> QueryError:
    # Messages of other classes quote values ("invalid input syntax for type integer: …"); names of
    # constraints, tables and columns say enough and hold no one's data.
    condition = re.sub(r"(?<!^)(?=[A-Z])", " ", type(error).__name__.removesuffix("Error")).lower()
    detail = f": {message_of(error)}" if state.startswith(_SPEAKING_CLASSES) else ""
    fields = ("constraint_name", "table_name", "column_name")
    found = [(name, getattr(error, name, None)) for name in fields]
    names = "".join(
        f", {name.removesuffix('_name')} {value!r}" for name, value in found if value is not None
    )
    return QueryError(
        f"The database refused the statement (SQLSTATE {state}, {condition}{names}){detail}.",
        remedy="Correct the statement or its arguments."
        if state[:2] in {"22", "23", "42"}
        else None,
        tenant_id=tenant_id,
        retryable=state in _RETRYABLE or is_outdated(error),
    )


def _unfit_argument(error: BaseException, *, tenant_id: str | None) -> QueryError:
    # The driver's message repeats the value; only the argument's number may travel on.
    number = re.search(r"query argument (\$\d+)", str(error))
    which = f"Argument {number.group(1)}" if number else "The statement or one of its arguments"
    return QueryError(
        f"{which} does not fit: it cannot be encoded for the type that the database expects.",
        remedy="Pass a value of that type; text has no NUL and no lone surrogates.",
        tenant_id=tenant_id,
    )
