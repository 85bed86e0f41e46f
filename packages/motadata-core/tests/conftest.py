"""Leaves the tests of drivers out where core stands bare, to show that it stays light."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextvars import Context, copy_context
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from types import CoroutineType
from typing import Any, Protocol

import pytest

from motadata.core.resilience import remaining


collect_ignore_glob: list[str] = []
if find_spec("asyncpg") is None:
    collect_ignore_glob += ["test_database*.py", "test_migrations*.py", "test_embedded*.py"]
if find_spec("nats") is None:
    collect_ignore_glob += ["test_messaging*.py", "test_embedded_nats*.py"]
if find_spec("redis") is None:
    collect_ignore_glob += [
        "test_redis*.py",
        "test_embedded_redis*.py",
        "test_resilience_shared*.py",
    ]
if find_spec("ormsgpack") is None or find_spec("msgspec") is None:
    collect_ignore_glob += ["test_codec_fast*.py"]
if find_spec("google") is None or find_spec("google.protobuf") is None:
    collect_ignore_glob += ["test_codec_protobuf*.py"]


@pytest.fixture
async def begun_tasks() -> AsyncIterator[list[tuple[str, float | None]]]:
    """Each task of ours that begins: what it runs, and the seconds that its deadline leaves."""
    begun: list[tuple[str, float | None]] = []

    def begin(
        loop: asyncio.AbstractEventLoop,
        work: CoroutineType[object, object, object],
        *,
        context: Context | None = None,
        **options: Any,
    ) -> asyncio.Task[object]:
        own = copy_context() if context is None else context
        if "motadata" in Path(work.cr_code.co_filename).parts:
            begun.append((work.__qualname__, own.run(remaining)))
        return asyncio.Task(work, loop=loop, context=own, **options)

    loop = asyncio.get_running_loop()
    loop.set_task_factory(begin)
    yield begun
    loop.set_task_factory(None)


class Complaint(Protocol):
    """Says why one test of a kit fails for an implementation, or nothing when it passes."""

    async def __call__(self, kit: object, test: str, **fixtures: object) -> str: ...


@pytest.fixture
def complaint() -> Complaint:
    async def run(kit: object, test: str, **fixtures: object) -> str:
        wanted = signature(getattr(kit, test)).parameters
        try:
            await getattr(kit, test)(**{name: fixtures[name] for name in wanted})
        except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - the kit's complaint
            return repr(error)
        return ""

    return run
