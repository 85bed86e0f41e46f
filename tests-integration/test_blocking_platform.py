"""A platform in a service without an event loop: threads of a Django or Flask worker share it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import pytest

from motadata.core.blocking import Blocking, blocking, run
from motadata.core.errors import ConfigurationError, DeadlineExceededError, TenantRequiredError
from motadata.core.models import Answer, Document
from motadata.core.platform import Platform, create_platform
from motadata.core.resilience import deadline_scope
from motadata.core.tenancy import tenant_scope


THREADS = 8
COLOURS = {"acme": "amber", "Acme": "violet"}
"""Two tenants that look alike, and what each of them alone was told."""


@pytest.fixture
def platform(environment: dict[str, str]) -> Iterator[Blocking[Platform]]:
    with blocking(create_platform(environment)) as opened:
        yield opened


def lockers_of(tenant: str) -> Document:
    return Document(f"The locker of {tenant} is painted {COLOURS[tenant]}.", "lockers.md")


def ask(platform: Blocking[Platform], tenant: str) -> Answer:
    with tenant_scope(tenant):
        # The plain methods of a wrapped component, and `run`, which keeps the types.
        knowledge_base = platform.knowledge_base
        return cast("Answer", knowledge_base.query("How is the locker painted?"))  # type: ignore[attr-defined]  # whatever the component has


def test_threads_of_two_tenants_ask_one_platform(platform: Blocking[Platform]) -> None:
    for tenant in COLOURS:
        run(platform.component.knowledge_base.ingest_document(lockers_of(tenant), tenant_id=tenant))

    tenants = [*COLOURS] * 2 * THREADS
    with ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(lambda tenant: ask(platform, tenant), tenants))

    for tenant, answer in zip(tenants, answers, strict=True):
        assert COLOURS[tenant] in answer.answer
    with pytest.raises(TenantRequiredError):
        platform.knowledge_base.query("How is the locker painted?")  # type: ignore[attr-defined]  # as above


def test_transactions_and_streams_are_plain_blocks_and_loops(platform: Blocking[Platform]) -> None:
    def work(number: int) -> tuple[str, str]:
        tenant = f"tenant-{number % 2}"
        with platform.database.transaction(tenant) as transaction:  # type: ignore[attr-defined]  # as above
            (row,) = transaction.fetch("select current_setting('motadata.tenant_id') as tenant")
        chunks = platform.gateway.stream("Say something.", tenant_id=tenant)  # type: ignore[attr-defined]  # as above
        return row["tenant"], "".join(chunk.text for chunk in chunks)

    with ThreadPoolExecutor(THREADS) as pool:
        done = list(pool.map(work, range(4 * THREADS)))

    assert [tenant for tenant, _ in done] == [f"tenant-{n % 2}" for n in range(4 * THREADS)]
    assert all(text for _, text in done)


def test_the_deadline_of_a_thread_goes_along(platform: Blocking[Platform]) -> None:
    with deadline_scope(0.2), pytest.raises(DeadlineExceededError):
        platform.database.execute_query("select pg_sleep(30)", tenant_id="acme")  # type: ignore[attr-defined]  # as above


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_worker_opens_a_platform_of_its_own(
    platform: Blocking[Platform], environment: dict[str, str]
) -> None:
    child = os.fork()
    if child == 0:
        code = 3
        try:
            platform.database.execute_query("select 1", tenant_id="acme")  # type: ignore[attr-defined]  # as above
        except ConfigurationError:
            with blocking(create_platform(environment)) as own:
                rows = own.database.execute_query("select 1 as one", tenant_id="acme")  # type: ignore[attr-defined]  # as above
            code = 0 if rows[0]["one"] == 1 else 2
        finally:
            os._exit(code)

    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert platform.database.execute_query("select 1 as one", tenant_id="acme")  # type: ignore[attr-defined]  # as above
