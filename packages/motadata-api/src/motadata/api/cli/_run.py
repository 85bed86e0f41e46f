"""How every command runs: on an event loop, interrupted quietly, its errors with their remedy."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Final, NoReturn

import typer

from motadata.api._problems import operator_problem
from motadata.api.cli._output import errors_console, print_json
from motadata.core.errors import ConfigurationError, SDKError, TenantError
from motadata.core.observability import LogLevel, configure_observability
from motadata.core.platform import Platform, create_platform


EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
_EXIT_INTERRUPTED: Final = 130
_EXIT_TERMINATED: Final = 143

Work = Callable[[], Coroutine[object, object, int]]


def execute(
    work: Work, context: typer.Context, *, as_json: bool, log_level: LogLevel = "WARNING"
) -> NoReturn:
    """Run a command to its end and leave with its exit code."""
    debug = bool(context.obj)
    configure_observability(level="DEBUG" if debug else log_level, json=as_json, stream=sys.stderr)
    try:
        code = asyncio.run(_until_terminated(work))
    except KeyboardInterrupt:
        code = _EXIT_INTERRUPTED
    except asyncio.CancelledError:
        code = _EXIT_TERMINATED
    except SDKError as error:
        if debug:
            raise
        code = report_error(error, as_json=as_json)
    raise typer.Exit(code)


def report_error(error: SDKError, *, as_json: bool) -> int:
    """Say what went wrong and what to do about it; return the exit code for it."""
    problem = operator_problem(error)
    if as_json:
        print_json(problem.body(error.trace_id))
    else:
        console = errors_console()
        console.print(f"Error ({problem.code}): {problem.message}", style="red")
        if problem.remedy:
            console.print(problem.remedy)
    return EXIT_USAGE if isinstance(error, ConfigurationError | TenantError) else EXIT_FAILED


@asynccontextmanager
async def open_platform(*, quiet: bool) -> AsyncIterator[Platform]:
    """Open what is installed, with a word on the terminal while that takes its time."""
    console = errors_console()
    waiting = (
        console.status("Starting…")
        if console.is_terminal and not quiet
        else contextlib.nullcontext()
    )
    async with contextlib.AsyncExitStack() as stack:
        with waiting:
            platform = await stack.enter_async_context(create_platform())
        yield platform


async def _until_terminated(work: Work) -> int:
    """Treat a polite request to end like an interruption: what is open is closed."""
    task = asyncio.current_task()
    assert task is not None, "a coroutine of asyncio.run is a task"
    loop = asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError):  # Windows
        loop.add_signal_handler(signal.SIGTERM, task.cancel)
    return await work()
