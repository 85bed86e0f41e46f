from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest


pytest.importorskip("jinja2")

from motadata.core.database import PostgresDatabase
from motadata.core.errors import (
    DatabaseError,
    InvalidIdentifierError,
    PromptError,
    PromptNotFoundError,
    PromptTemplateError,
    QueryError,
    TenantRequiredError,
)
from motadata.core.prompts import (
    DatabasePrompts,
    PromptLibrary,
    PromptOutcomes,
    PromptTemplate,
    VariantSummary,
)
from motadata.core.testing.plugin import DatabaseDsns


ONE = PromptTemplate("triage", "One {{ n }}", description="First.")
TWO = PromptTemplate(
    "triage", "Two {{ n }} {{ who }}", version=2, defaults={"who": "you"}, trusted=["who"]
)
TABLES = ("prompt_active", "prompt_template", "prompt_outcome")


@pytest.fixture(autouse=True)
async def _empty(database: PostgresDatabase) -> None:
    for tenant in ("acme", "globex"):
        for table in TABLES:
            await database.execute_query(f"delete from motadata.{table}", tenant_id=tenant)


@pytest.fixture
def prompts(database: PostgresDatabase) -> DatabasePrompts:
    return DatabasePrompts(database)


@pytest.fixture
def library(prompts: DatabasePrompts) -> PromptLibrary:
    return PromptLibrary([prompts])


@pytest.fixture
def outcomes(database: PostgresDatabase) -> PromptOutcomes:
    return PromptOutcomes(database)


async def test_stored_template_comes_back_as_it_was(
    prompts: DatabasePrompts, library: PromptLibrary
) -> None:
    for template in (ONE, TWO):
        await prompts.add(template, tenant_id="acme")
        got = await library.get("triage", version=template.version, tenant_id="acme")

        assert (got.checksum, got.description) == (template.checksum, template.description)
        assert got.render({"n": 3}) == template.render({"n": 3})


async def test_version_is_not_active_before_it_is_made_so(
    prompts: DatabasePrompts, library: PromptLibrary
) -> None:
    await prompts.add(ONE, tenant_id="acme")
    with pytest.raises(PromptNotFoundError):
        await library.get("triage", tenant_id="acme")

    await prompts.add(TWO, activate=True, tenant_id="acme")
    assert (await library.get("triage", tenant_id="acme")).version == 2
    await prompts.activate("triage", 1, tenant_id="acme")
    assert (await library.get("triage", tenant_id="acme")).version == 1
    versions = await prompts.versions("triage", tenant_id="acme")
    assert [(one.version, one.is_active) for one in versions] == [(2, False), (1, True)]


async def test_deactivated_prompt_is_found_in_the_next_source(
    prompts: DatabasePrompts, library: PromptLibrary
) -> None:
    await prompts.add(ONE, activate=True, tenant_id="acme")

    assert await prompts.deactivate("triage", tenant_id="acme") is True
    assert await prompts.deactivate("triage", tenant_id="acme") is False
    with pytest.raises(PromptNotFoundError):
        await library.get("triage", tenant_id="acme")
    assert (await library.get("triage", version=1, tenant_id="acme")).version == 1


async def test_activating_what_is_not_there_changes_nothing(
    prompts: DatabasePrompts, library: PromptLibrary
) -> None:
    await prompts.add(ONE, activate=True, tenant_id="acme")

    with pytest.raises(PromptNotFoundError, match="version 9"):
        await prompts.activate("triage", 9, tenant_id="acme")
    assert (await library.get("triage", tenant_id="acme")).version == 1


async def test_adding_again_is_nothing_and_adding_another_is_refused(
    prompts: DatabasePrompts,
) -> None:
    other = PromptTemplate("triage", "Other {{ n }}")
    await prompts.add(ONE, tenant_id="acme")
    await prompts.add(ONE, tenant_id="acme")

    with pytest.raises(PromptTemplateError, match="version 1 already"):
        await prompts.add(other, activate=True, tenant_id="acme")
    (version,) = await prompts.versions("triage", tenant_id="acme")
    assert (version.checksum, version.is_active) == (ONE.checksum, False)


async def test_of_two_that_add_one_version_at_once_one_wins(prompts: DatabasePrompts) -> None:
    others = [PromptTemplate("triage", f"Text {number}") for number in range(4)]

    results = await asyncio.gather(
        *(prompts.add(other, activate=True, tenant_id="acme") for other in others),
        return_exceptions=True,
    )

    assert [type(result) for result in results].count(PromptTemplateError) == 3
    assert len(await prompts.versions("triage", tenant_id="acme")) == 1


async def test_stored_version_cannot_be_changed_even_by_sql(
    prompts: DatabasePrompts, database: PostgresDatabase
) -> None:
    await prompts.add(ONE, activate=True, tenant_id="acme")

    with pytest.raises(QueryError, match="row-level security"):
        await database.execute_query(
            "update motadata.prompt_template set body = 'x'", tenant_id="acme"
        )


async def test_version_that_is_not_active_can_be_removed(prompts: DatabasePrompts) -> None:
    await prompts.add(ONE, activate=True, tenant_id="acme")
    await prompts.add(TWO, tenant_id="acme")

    assert await prompts.remove("triage", 2, tenant_id="globex") is False
    assert await prompts.remove("triage", 2, tenant_id="acme") is True
    assert await prompts.remove("triage", 2, tenant_id="acme") is False
    with pytest.raises(PromptTemplateError, match="is the active one"):
        await prompts.remove("triage", 1, tenant_id="acme")
    assert [one.version for one in await prompts.versions("triage", tenant_id="acme")] == [1]


async def test_active_version_cannot_be_deleted(
    prompts: DatabasePrompts, library: PromptLibrary, database: PostgresDatabase
) -> None:
    await prompts.add(ONE, activate=True, tenant_id="acme")

    with pytest.raises(QueryError, match="foreign key"):
        await database.execute_query("delete from motadata.prompt_template", tenant_id="acme")
    assert (await library.get("triage", tenant_id="acme")).version == 1


async def test_no_table_has_a_trigger_of_ours(database: PostgresDatabase) -> None:
    # Citus does not distribute tables that have one.
    rows = await database.execute_query(
        "select tgname from pg_trigger t join pg_class c on c.oid = t.tgrelid"
        " where not t.tgisinternal and c.relnamespace = 'motadata'::regnamespace",
        tenant_id="acme",
    )

    assert rows == []


async def test_tenants_do_not_see_each_other_s_prompts(
    prompts: DatabasePrompts, library: PromptLibrary, database: PostgresDatabase
) -> None:
    await prompts.add(ONE, activate=True, tenant_id="acme")

    for version in (None, 1):
        with pytest.raises(PromptNotFoundError):
            await library.get("triage", version=version, tenant_id="globex")
    with pytest.raises(PromptNotFoundError):
        await prompts.activate("triage", 1, tenant_id="globex")
    assert await prompts.versions("triage", tenant_id="globex") == ()
    assert await prompts.deactivate("triage", tenant_id="globex") is False
    for table in TABLES:
        rows = await database.execute_query(f"select * from motadata.{table}", tenant_id="globex")
        assert rows == []
    assert (await library.get("triage", tenant_id="acme")).version == 1


async def test_row_that_holds_no_template_is_a_typed_error(
    library: PromptLibrary, database: PostgresDatabase
) -> None:
    await database.execute_query(
        "insert into motadata.prompt_template values"
        " ('acme', 'odd', 1, '{{ x() }}', '{}', repeat('0', 64))",
        tenant_id="acme",
    )

    with pytest.raises(PromptTemplateError, match="'odd'"):
        await library.get("odd", version=1, tenant_id="acme")


async def test_fallback_serves_while_the_database_is_away(database_dsns: DatabaseDsns) -> None:
    from motadata.core.database import create_database

    spare = PromptTemplate("spare", "Spare.")
    async with create_database(database_dsns.runtime, max_connections=1, timeout=0.2) as database:
        library = PromptLibrary([DatabasePrompts(database)])
        async with database.transaction("acme"):
            prompt = await library.render("triage", fallback=spare, tenant_id="acme")
            with pytest.raises(DatabaseError):
                await library.render("triage", tenant_id="acme")

    assert (prompt.text, prompt.is_fallback) == ("Spare.", True)


async def test_outcomes_are_summed_up_by_variant(outcomes: PromptOutcomes) -> None:
    for variant, score in (("a", 1.0), ("a", 0.0), ("b", 1)):
        assert await outcomes.record("tone", variant, score, tenant_id="acme")
    await outcomes.record("other", "a", 5.0, tenant_id="acme")

    assert await outcomes.summarise("tone", tenant_id="acme") == (
        VariantSummary("a", 2, 0.5, pytest.approx(0.7071, abs=1e-3)),
        VariantSummary("b", 1, 1.0, 0.0),
    )


async def test_repeated_outcome_counts_once(outcomes: PromptOutcomes) -> None:
    outcome = uuid4()
    recorded = [
        await outcomes.record("tone", "a", 1.0, outcome_id=outcome, tenant_id="acme")
        for _ in range(2)
    ]

    assert recorded == [True, False]
    (summary,) = await outcomes.summarise("tone", tenant_id="acme")
    assert summary.outcomes == 1


async def test_tenants_do_not_see_each_other_s_outcomes(outcomes: PromptOutcomes) -> None:
    outcome = uuid4()
    await outcomes.record("tone", "a", 1.0, outcome_id=outcome, tenant_id="acme")

    assert await outcomes.summarise("tone", tenant_id="globex") == ()
    assert await outcomes.record("tone", "a", 1.0, outcome_id=outcome, tenant_id="globex")


async def test_forgotten_outcomes_are_gone_for_that_tenant_and_experiment(
    outcomes: PromptOutcomes,
) -> None:
    for tenant, experiment in (("acme", "tone"), ("acme", "other"), ("globex", "tone")):
        await outcomes.record(experiment, "a", 1.0, tenant_id=tenant)

    assert await outcomes.forget("tone", tenant_id="acme") == 1
    assert await outcomes.summarise("tone", tenant_id="acme") == ()
    assert len(await outcomes.summarise("other", tenant_id="acme")) == 1
    assert len(await outcomes.summarise("tone", tenant_id="globex")) == 1


async def test_unfit_outcome_is_a_typed_error(outcomes: PromptOutcomes) -> None:
    with pytest.raises(PromptError, match="nan"):
        await outcomes.record("tone", "a", float("nan"), tenant_id="acme")
    with pytest.raises(InvalidIdentifierError):
        await outcomes.record("tone", "a b", 1.0, tenant_id="acme")


async def test_nothing_goes_without_a_tenant(
    prompts: DatabasePrompts, outcomes: PromptOutcomes
) -> None:
    for operation in (
        prompts.add(ONE),
        prompts.activate("triage", 1),
        prompts.deactivate("triage"),
        prompts.versions("triage"),
        prompts.remove("triage", 1),
        outcomes.forget("tone"),
        outcomes.record("tone", "a", 1.0),
        outcomes.summarise("tone"),
    ):
        with pytest.raises(TenantRequiredError):
            await operation
