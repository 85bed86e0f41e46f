from __future__ import annotations

import asyncio
import contextvars
import pickle
import re
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motadata.core import tenancy
from motadata.core.errors import InvalidIdentifierError, TenantRequiredError
from motadata.core.tenancy import (
    Identifier,
    TenantId,
    current_tenant,
    resolve_tenant,
    tenant_scope,
)


@given(st.from_regex(re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII), fullmatch=True))
def test_identifier_of_the_grammar_is_taken_as_it_is(text: str) -> None:
    assert TenantId(text) == text
    assert hash(TenantId(text)) == hash(text)
    assert isinstance(TenantId(text), str)


@given(st.text(max_size=70))
def test_any_other_text_is_refused(text: str) -> None:
    fits = re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text, re.ASCII) is not None
    if fits:
        assert TenantId(text) == text
        return
    with pytest.raises(InvalidIdentifierError):
        TenantId(text)


@pytest.mark.parametrize(
    "text",
    ["", " ", "a b", "a:b", "a.b", "a/b", "*", ">", "a\n", "a\x00", "é", "\u0661", "{a}", "x" * 65],
    ids=repr,
)
def test_separators_wildcards_and_foreign_digits_are_refused(text: str) -> None:
    with pytest.raises(InvalidIdentifierError, match="1 to 64 characters"):
        TenantId(text)


@pytest.mark.parametrize("value", [None, 5, b"acme", ["acme"]])
def test_what_is_no_text_is_refused(value: object) -> None:
    with pytest.raises(InvalidIdentifierError, match="tenant id"):
        TenantId(value)  # type: ignore[arg-type]  # the point of the test


def test_long_offending_value_is_cut_in_the_message() -> None:
    with pytest.raises(InvalidIdentifierError) as caught:
        TenantId("x" * 100_000)

    assert len(str(caught.value)) < 300


def test_tenant_id_is_an_identifier_but_an_identifier_is_no_tenant_id() -> None:
    assert isinstance(TenantId("acme"), Identifier)
    assert not isinstance(Identifier("acme"), TenantId)
    assert isinstance(TenantId(Identifier("acme")), TenantId)


def test_tenant_id_survives_pickling_and_formatting() -> None:
    assert pickle.loads(pickle.dumps(TenantId("acme"))) == "acme"
    assert f"{TenantId('acme')}" == "acme"


def test_outside_every_scope_there_is_no_tenant() -> None:
    assert current_tenant() is None
    with pytest.raises(TenantRequiredError, match="tenant_scope"):
        resolve_tenant(None)


def test_given_tenant_wins_over_the_scope() -> None:
    with tenant_scope("acme"):
        assert resolve_tenant(None) == "acme"
        assert resolve_tenant("globex") == "globex"


def test_empty_tenant_is_an_error_and_not_the_scope_s() -> None:
    with tenant_scope("acme"), pytest.raises(InvalidIdentifierError):
        resolve_tenant("")


def test_scopes_nest_and_restore_what_was_around() -> None:
    with tenant_scope("acme"):
        with tenant_scope("globex"):
            assert current_tenant() == "globex"
        assert current_tenant() == "acme"
    assert current_tenant() is None


def test_scope_ends_when_an_error_leaves_it() -> None:
    with pytest.raises(LookupError), tenant_scope("acme"):
        raise LookupError
    assert current_tenant() is None


def test_malformed_tenant_opens_no_scope() -> None:
    with pytest.raises(InvalidIdentifierError), tenant_scope("a:b"):
        pytest.fail("the block must not run")
    assert current_tenant() is None


async def test_concurrent_tasks_keep_their_own_tenants() -> None:
    async def work(tenant: str) -> str | None:
        with tenant_scope(tenant):
            for _ in range(5):
                await asyncio.sleep(0)
                assert current_tenant() == tenant
            return await asyncio.to_thread(current_tenant)

    tenants = [f"t{number}" for number in range(100)]

    assert await asyncio.gather(*(work(tenant) for tenant in tenants)) == tenants


async def test_task_inherits_the_scope_in_which_it_was_made() -> None:
    async def work() -> str | None:
        await asyncio.sleep(0)
        return current_tenant()

    with tenant_scope("acme"):
        task = asyncio.create_task(work())
    with tenant_scope("globex"):
        assert await task == "acme"


def test_new_thread_starts_without_a_tenant_unless_it_gets_the_context() -> None:
    seen: list[str | None] = []
    with tenant_scope("acme"):
        context = contextvars.copy_context()
        bare = threading.Thread(target=lambda: seen.append(current_tenant()))
        carried = threading.Thread(target=lambda: seen.append(context.run(current_tenant)))
        for thread in (bare, carried):
            thread.start()
            thread.join()

    assert seen == [None, "acme"]


def test_tenants_that_are_remembered_are_few_and_checked_all_the_same() -> None:
    for number in range(10_000):
        assert resolve_tenant(f"tenant-{number}") == f"tenant-{number}"

    assert len(tenancy._known) <= 4_096
    for bad in ("a b", "", "a:b", "x" * 65) * 2:
        with pytest.raises(InvalidIdentifierError):
            resolve_tenant(bad)
    assert type(resolve_tenant("tenant-1")) is TenantId
