"""The contract of a cache as tests: subclass and give the fixture `cache`.

    class TestMine(CacheConformance):
        @pytest.fixture
        async def cache(self) -> AsyncIterator[Cache]:
            async with create_mine() as mine:
                yield mine

The tests use the tenants `acme` and `globex`, which must be empty at the start of each. A cache
whose clock can be moved gives the fixture `pass_time` too, and nothing waits for real.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest

from motadata.core.errors import CacheError, InvalidIdentifierError, TenantRequiredError
from motadata.core.models import Answer, Citation, Usage
from motadata.core.protocols import Cache
from motadata.core.tenancy import tenant_scope
from motadata.core.testing._cache_computations import CacheComputationCases


PassTime = Callable[[float], Awaitable[None]]

_ANSWER = Answer(
    query="Who approves a change?",
    answer="The change advisory board [1].",
    citations=(Citation("change", "Changes", "changes.md", 2, None, "Approval", 4, 30, "…", 0.9),),
    usage=Usage(input_tokens=20, output_tokens=7, cost_usd=Decimal("0.00010")),
)
_VALUES: tuple[object, ...] = (
    0,
    False,
    "",
    2**80,
    -0.5,
    b"\x00\xff",
    [],
    {},
    [1, [2, {"three": None}]],
    {"$datetime": "only looks like one"},
    datetime(2026, 11, 22, 9, 30, tzinfo=UTC),
    Decimal("0.10"),
    UUID("018f3c1e-7b7a-7cc0-8000-000000000001"),
    _ANSWER,
    [_ANSWER],
)


class CacheConformance(CacheComputationCases):
    """What every implementation of `motadata.core.protocols.Cache` must do."""

    @pytest.fixture
    def cache(self) -> Cache:
        """Supply the implementation, entered and empty."""
        message = "A subclass supplies the fixture `cache`."
        raise NotImplementedError(message)

    @pytest.fixture
    def pass_time(self) -> PassTime:
        """Let the cache's clock go on; a subclass whose clock can be moved need not wait."""
        return asyncio.sleep

    @pytest.mark.parametrize("value", _VALUES, ids=lambda value: type(value).__name__)
    async def test_value_comes_back_equal_and_of_the_same_type(
        self, cache: Cache, value: object
    ) -> None:
        await cache.set("key", value, tenant_id="acme")

        got = await cache.get("key", tenant_id="acme")

        assert got == value
        assert type(got) is type(value)

    async def test_absent_key_reads_as_none(self, cache: Cache) -> None:
        assert await cache.get("absent", tenant_id="acme") is None

    async def test_stored_none_reads_as_absent_and_replaces_what_was_there(
        self, cache: Cache
    ) -> None:
        await cache.set("key", "old", tenant_id="acme")
        await cache.set("key", None, tenant_id="acme")

        assert await cache.get("key", tenant_id="acme") is None
        assert await cache.get_many(["key"], tenant_id="acme") == {}

    async def test_last_value_that_was_set_is_the_one_that_is_read(self, cache: Cache) -> None:
        await cache.set("key", "first", tenant_id="acme")
        await cache.set("key", "second", tenant_id="acme")

        assert await cache.get("key", tenant_id="acme") == "second"

    async def test_changing_a_value_after_it_was_set_does_not_change_the_cache(
        self, cache: Cache
    ) -> None:
        value = {"steps": ["one"]}
        await cache.set("key", value, tenant_id="acme")
        value["steps"].append("two")

        assert await cache.get("key", tenant_id="acme") == {"steps": ["one"]}

    async def test_no_method_reaches_the_values_of_another_tenant(self, cache: Cache) -> None:
        await cache.set("key", "ours", tenant_id="acme")
        await cache.set("key", "theirs", tenant_id="globex")

        deleted = await cache.delete("key", tenant_id="acme")
        matched = await cache.invalidate_pattern("*", tenant_id="acme")
        await cache.invalidate_tenant(tenant_id="acme")

        assert (deleted, matched) == (True, 0)
        assert await cache.get("key", tenant_id="acme") is None
        assert await cache.get_many(["key"], tenant_id="acme") == {}
        assert await cache.get("key", tenant_id="globex") == "theirs"

    async def test_tenants_differ_by_case(self, cache: Cache) -> None:
        await cache.set("key", "lower", tenant_id="acme")

        assert await cache.get("key", tenant_id="ACME") is None

    async def test_namespaces_do_not_mix(self, cache: Cache) -> None:
        await cache.set("key", 1, namespace="answers", tenant_id="acme")
        await cache.set("key", 2, namespace="vectors", tenant_id="acme")
        await cache.delete("key", namespace="answers", tenant_id="acme")

        assert await cache.get("key", namespace="vectors", tenant_id="acme") == 2
        assert await cache.get("key", namespace="answers", tenant_id="acme") is None
        assert await cache.get("key", tenant_id="acme") is None

    async def test_tenant_of_the_scope_is_taken_when_none_is_given(self, cache: Cache) -> None:
        with tenant_scope("acme"):
            await cache.set("key", "scoped")

            assert await cache.get("key") == "scoped"
            assert await cache.get("key", tenant_id="globex") is None
        assert await cache.get("key", tenant_id="acme") == "scoped"

    async def test_no_tenant_is_an_error_of_every_method(self, cache: Cache) -> None:
        calls: tuple[Callable[[], Awaitable[object]], ...] = (
            lambda: cache.get("key"),
            lambda: cache.set("key", 1),
            lambda: cache.delete("key"),
            lambda: cache.get_many(["key"]),
            lambda: cache.set_many({"key": 1}),
            lambda: cache.get_or_compute("key", _one),
            lambda: cache.invalidate_pattern("*"),
            lambda: cache.invalidate_tag("tag"),
            cache.invalidate_tenant,
        )
        for call in calls:
            with pytest.raises(TenantRequiredError):
                await call()

    @pytest.mark.parametrize("tenant", ["", "a:b", "a*", "a.b", "x" * 65, "acme\n"])
    async def test_malformed_tenant_is_an_error(self, cache: Cache, tenant: str) -> None:
        with pytest.raises(InvalidIdentifierError):
            await cache.get("key", tenant_id=tenant)
        with pytest.raises(InvalidIdentifierError):
            await cache.set("key", 1, tenant_id=tenant)

    async def test_malformed_namespace_is_an_error(self, cache: Cache) -> None:
        with pytest.raises(InvalidIdentifierError):
            await cache.get("key", namespace="a:b", tenant_id="acme")
        with pytest.raises(InvalidIdentifierError):
            await cache.set("key", 1, namespace="*", tenant_id="acme")

    @pytest.mark.parametrize("key", ["", "x" * 513, "a\nb", "a\x00b", "\x7f", "\ud800"])
    async def test_malformed_key_is_an_error(self, cache: Cache, key: str) -> None:
        with pytest.raises(CacheError):
            await cache.get(key, tenant_id="acme")
        with pytest.raises(CacheError):
            await cache.set(key, 1, tenant_id="acme")

    @pytest.mark.parametrize("key", ["a b", "*", "?", "a:b", "{x}", "ключ", "😀", "x" * 512])
    async def test_key_may_hold_what_is_special_elsewhere(self, cache: Cache, key: str) -> None:
        await cache.set(key, "value", tenant_id="acme")

        assert await cache.get(key, tenant_id="acme") == "value"
        assert await cache.get("other", tenant_id="acme") is None

    @pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf")])
    async def test_ttl_must_be_positive_and_finite(self, cache: Cache, ttl: float) -> None:
        with pytest.raises(CacheError):
            await cache.set("key", 1, ttl=ttl, tenant_id="acme")

        assert await cache.get("key", tenant_id="acme") is None

    async def test_value_without_an_encoding_is_refused(self, cache: Cache) -> None:
        with pytest.raises(CacheError):
            await cache.set("key", object(), tenant_id="acme")

    async def test_value_is_gone_after_its_time(self, cache: Cache, pass_time: PassTime) -> None:
        await cache.set("short", 1, ttl=0.1, tenant_id="acme")
        await cache.set("long", 2, ttl=60, tenant_id="acme")
        await pass_time(0.15)

        assert await cache.get("short", tenant_id="acme") is None
        assert await cache.delete("short", tenant_id="acme") is False
        assert await cache.get("long", tenant_id="acme") == 2

    async def test_setting_again_starts_the_time_again(
        self, cache: Cache, pass_time: PassTime
    ) -> None:
        await cache.set("key", 1, ttl=0.1, tenant_id="acme")
        await cache.set("key", 2, ttl=60, tenant_id="acme")
        await pass_time(0.15)

        assert await cache.get("key", tenant_id="acme") == 2

    async def test_delete_tells_whether_the_key_was_there(self, cache: Cache) -> None:
        await cache.set("key", 1, tenant_id="acme")

        assert await cache.delete("key", tenant_id="acme") is True
        assert await cache.delete("key", tenant_id="acme") is False

    async def test_many_are_set_and_read_at_once(self, cache: Cache) -> None:
        await cache.set_many({"a": 1, "b": 2}, tenant_id="acme")

        assert await cache.get_many(["a", "b", "c"], tenant_id="acme") == {"a": 1, "b": 2}
        assert await cache.get_many([], tenant_id="acme") == {}

    async def test_pattern_takes_the_matching_keys_of_one_namespace(self, cache: Cache) -> None:
        await cache.set_many({"doc:1": 1, "doc:2": 2, "doc:10": 3, "tag": 4}, tenant_id="acme")
        await cache.set("doc:1", 5, namespace="other", tenant_id="acme")

        gone = await cache.invalidate_pattern("doc:?", tenant_id="acme")

        assert gone == 2
        left = await cache.get_many(["doc:1", "doc:2", "doc:10", "tag"], tenant_id="acme")
        assert left == {"doc:10": 3, "tag": 4}
        assert await cache.get("doc:1", namespace="other", tenant_id="acme") == 5

    async def test_only_star_and_question_mark_are_special_in_a_pattern(self, cache: Cache) -> None:
        await cache.set_many({"a[1]": 1, "a1": 2, "a\\x": 3, "b": 4}, tenant_id="acme")

        assert await cache.invalidate_pattern("a[1]", tenant_id="acme") == 1
        assert await cache.invalidate_pattern("a\\*", tenant_id="acme") == 1
        assert await cache.get_many(["a1", "b"], tenant_id="acme") == {"a1": 2, "b": 4}

    async def test_tenant_can_store_again_after_it_was_forgotten(self, cache: Cache) -> None:
        await cache.set("key", "old", tenant_id="acme")
        await cache.invalidate_tenant(tenant_id="acme")
        await cache.set("key", "new", tenant_id="acme")

        assert await cache.get("key", tenant_id="acme") == "new"

    async def test_tag_takes_what_carries_it_in_every_namespace_of_one_tenant(
        self, cache: Cache
    ) -> None:
        await cache.set("a", 1, tags=["doc:1", "doc:2"], tenant_id="acme")
        await cache.set("b", 2, tags=["doc:1"], namespace="other", tenant_id="acme")
        await cache.set("c", 3, tags=["doc:2"], tenant_id="acme")
        await cache.set("d", 4, tenant_id="acme")
        await cache.set("a", 5, tags=["doc:1"], tenant_id="globex")

        await cache.invalidate_tag("doc:1", tenant_id="acme")

        assert await cache.get_many(["a", "c", "d"], tenant_id="acme") == {"c": 3, "d": 4}
        assert await cache.get("b", namespace="other", tenant_id="acme") is None
        assert await cache.get("a", tenant_id="globex") == 5
        assert await cache.delete("a", tenant_id="acme") is False

    async def test_values_that_are_stored_together_carry_their_tags(self, cache: Cache) -> None:
        await cache.set_many({"a": 1, "b": 2}, tags=["doc"], tenant_id="acme")
        await cache.set_many({"c": 3}, tags=["other"], tenant_id="acme")
        await cache.invalidate_tag("doc", tenant_id="acme")
        assert await cache.get_many(["a", "b", "c"], tenant_id="acme") == {"c": 3}

    async def test_only_the_tags_of_the_last_value_count(self, cache: Cache) -> None:
        await cache.set("key", 1, tags=["old"], tenant_id="acme")
        await cache.set("key", 2, tags=["new"], tenant_id="acme")

        await cache.invalidate_tag("old", tenant_id="acme")
        assert await cache.get("key", tenant_id="acme") == 2
        await cache.invalidate_tag("new", tenant_id="acme")
        assert await cache.get("key", tenant_id="acme") is None

    async def test_what_is_stored_after_its_tag_was_invalidated_stays(self, cache: Cache) -> None:
        await cache.set("key", 1, tags=["doc"], tenant_id="acme")
        await cache.invalidate_tag("doc", tenant_id="acme")
        await cache.set("key", 2, tags=["doc"], tenant_id="acme")

        assert await cache.get("key", tenant_id="acme") == 2

    async def test_computed_value_carries_its_tags(self, cache: Cache) -> None:
        await cache.get_or_compute("key", _one, tags=["doc"], tenant_id="acme")
        assert await cache.get_or_compute("key", _two, tags=["doc"], tenant_id="acme") == 1
        await cache.invalidate_tag("doc", tenant_id="acme")

        assert await cache.get("key", tenant_id="acme") is None

    @pytest.mark.parametrize("tag", ["", "a\nb", "x" * 513])
    async def test_malformed_tag_is_an_error(self, cache: Cache, tag: str) -> None:
        with pytest.raises(CacheError):
            await cache.set("key", 1, tags=[tag], tenant_id="acme")
        with pytest.raises(CacheError):
            await cache.get_or_compute("key", _one, tags=[tag], tenant_id="acme")
        with pytest.raises(CacheError):
            await cache.invalidate_tag(tag, tenant_id="acme")

    async def test_tags_given_as_one_text_are_an_error(self, cache: Cache) -> None:
        with pytest.raises(CacheError):
            await cache.set("key", 1, tags="document", tenant_id="acme")

    async def test_healthy_cache_says_so(self, cache: Cache) -> None:
        assert (await cache.health()).status == "ok"


async def _one() -> object:
    return 1


async def _two() -> object:
    return 2
