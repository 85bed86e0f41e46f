from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Self

import pytest

from motadata.core import platform as platform_module
from motadata.core.cache import MemoryCache
from motadata.core.errors import ConfigurationError, DeadlineExceededError
from motadata.core.models import Health
from motadata.core.platform import ComponentSpec, Platform, create_platform, discover_components


class Part:
    """A component that writes down when it opens and closes."""

    def __init__(self, name: str, journal: list[str], state: Health | None = None) -> None:
        self.name = name
        self.journal = journal
        self.state = state or Health("ok")

    async def __aenter__(self) -> Self:
        self.journal.append(f"open {self.name}")
        return self

    async def __aexit__(self, *_: object) -> None:
        self.journal.append(f"close {self.name}")

    async def health(self) -> Health:
        return self.state


def part(
    name: str,
    journal: list[str],
    *,
    requires: tuple[str, ...] = (),
    uses: tuple[str, ...] = (),
    state: Health | None = None,
) -> ComponentSpec:
    return ComponentSpec(
        name, open=lambda _: Part(name, journal, state), requires=requires, uses=uses
    )


def opening(
    name: str, open_it: Callable[[Platform], AbstractAsyncContextManager[object]]
) -> ComponentSpec:
    return ComponentSpec(name, open=open_it)


class TestOrder:
    async def test_components_open_after_what_they_require_and_close_in_reverse(self) -> None:
        journal: list[str] = []
        specs = [
            part("rag", journal, requires=("db", "gateway")),
            part("gateway", journal, uses=("cache",)),
            part("cache", journal),
            part("db", journal),
        ]

        async with Platform(specs, {}) as platform:
            opened = list(journal)
            assert tuple(f"open {role}" for role in platform.roles) == tuple(opened)

        assert opened.index("open rag") > opened.index("open db")
        assert opened.index("open rag") > opened.index("open gateway")
        assert opened.index("open gateway") > opened.index("open cache")
        assert journal[4:] == [entry.replace("open", "close") for entry in reversed(opened)]

    async def test_component_finds_what_it_requires_open(self) -> None:
        journal: list[str] = []

        @asynccontextmanager
        async def open_rag(platform: Platform) -> AsyncIterator[object]:
            assert platform.has("db")
            yield platform.component("db")

        rag = ComponentSpec("rag", open=open_rag, requires=("db",))
        async with Platform([rag, part("db", journal)], {}) as platform:
            assert platform.component("rag") is platform.component("db")

    async def test_used_role_that_nobody_fills_is_no_error(self) -> None:
        journal: list[str] = []
        async with Platform([part("gateway", journal, uses=("cache",))], {}) as platform:
            assert not platform.has("cache")

    def test_missing_requirement_names_the_distribution_that_has_it(self) -> None:
        with pytest.raises(ConfigurationError, match="Install motadata-gateway"):
            Platform([part("rag", [], requires=("gateway",))], {})

    def test_circle_of_requirements_is_an_error_that_shows_it(self) -> None:
        with pytest.raises(ConfigurationError, match=r"(a → b → a|b → a → b)"):
            Platform([part("a", [], requires=("b",)), part("b", [], uses=("a",))], {})

    def test_two_components_of_one_role_are_an_error(self) -> None:
        with pytest.raises(ConfigurationError, match="Two components provide 'a'"):
            Platform([part("a", []), part("a", [])], {})

    def test_migrations_of_requirements_come_first(self) -> None:
        specs = [
            ComponentSpec("rag", open=lambda _: Part("rag", []), requires=("db",), migrations="r"),
            ComponentSpec("db", open=lambda _: Part("db", []), migrations="d"),
            ComponentSpec("cache", open=lambda _: Part("cache", [])),
        ]

        assert Platform(specs, {}).migrations == ("d", "r")


class TestLifecycle:
    async def test_failure_while_opening_closes_what_was_open_and_goes_on(self) -> None:
        journal: list[str] = []

        @asynccontextmanager
        async def fail(_: Platform) -> AsyncIterator[object]:
            message = "no disk"
            raise OSError(message)
            yield

        specs = [
            part("a", journal),
            part("b", journal, requires=("a",)),
            ComponentSpec("c", open=fail, requires=("b",)),
        ]
        platform = Platform(specs, {})

        with pytest.raises(OSError, match="no disk"):
            await platform.__aenter__()

        assert journal == ["open a", "open b", "close b", "close a"]
        assert not platform.has("a")

    async def test_cancellation_while_opening_closes_what_was_open(self) -> None:
        journal: list[str] = []
        reached = asyncio.Event()

        @asynccontextmanager
        async def hang(_: Platform) -> AsyncIterator[object]:
            reached.set()
            await asyncio.Event().wait()
            yield

        specs = [part("a", journal), ComponentSpec("b", open=hang, requires=("a",))]
        opening_it = asyncio.create_task(Platform(specs, {}).__aenter__())
        await reached.wait()
        opening_it.cancel()

        with pytest.raises(asyncio.CancelledError):
            await opening_it
        assert journal == ["open a", "close a"]

    async def test_failure_while_closing_still_closes_the_others(self) -> None:
        journal: list[str] = []

        @asynccontextmanager
        async def fail_at_end(_: Platform) -> AsyncIterator[object]:
            yield "b"
            message = "gone"
            raise OSError(message)

        specs = [part("a", journal), ComponentSpec("b", open=fail_at_end, requires=("a",))]

        with pytest.raises(OSError, match="gone"):
            async with Platform(specs, {}):
                pass
        assert journal == ["open a", "close a"]

    async def test_platform_can_be_opened_again_after_it_was_closed(self) -> None:
        journal: list[str] = []
        platform = Platform([part("a", journal)], {})
        for _ in range(2):
            async with platform:
                assert platform.has("a")
            assert not platform.has("a")

        assert journal == ["open a", "close a"] * 2

    async def test_opening_an_open_platform_is_an_error_and_leaves_it_open(self) -> None:
        journal: list[str] = []
        async with Platform([part("a", journal)], {}) as platform:
            with pytest.raises(ConfigurationError, match="open already"):
                await platform.__aenter__()
            assert platform.has("a")

        assert journal == ["open a", "close a"]

    async def test_role_of_a_closed_platform_is_an_error_that_says_how_to_open_it(self) -> None:
        platform = Platform([part("cache", [])], {})
        with pytest.raises(ConfigurationError, match="async with create_platform"):
            _ = platform.cache

    @pytest.mark.parametrize("role", ["database", "gateway", "knowledge_base", "ingestion"])
    async def test_role_that_nobody_fills_is_an_error_that_says_what_to_install(
        self, role: str
    ) -> None:
        async with Platform([], {}) as platform:
            with pytest.raises(ConfigurationError, match=rf"provides '{role}'\. Install"):
                getattr(platform, role)

    async def test_component_that_does_not_open_in_time_ends_the_opening(self) -> None:
        journal: list[str] = []

        @asynccontextmanager
        async def hanging(_: Platform) -> AsyncIterator[object]:
            try:
                await asyncio.Event().wait()
                yield object()
            finally:
                journal.append("gave up")

        platform = Platform(
            [part("first", journal), opening("second", hanging)], {}, opening_timeout=0.05
        )
        with pytest.raises(DeadlineExceededError, match="'second'"):
            async with platform:
                raise AssertionError

        assert journal == ["open first", "gave up", "close first"]


class TestHealth:
    async def test_platform_is_as_healthy_as_its_sickest_component(self) -> None:
        specs = [
            part("a", []),
            part("b", [], state=Health("degraded", "slow")),
            part("c", [], state=Health("ok")),
        ]
        async with Platform(specs, {}) as platform:
            health = await platform.health()

        assert health.status == "degraded"
        assert health.components["b"] == Health("degraded", "slow")

    async def test_closed_platform_is_down(self) -> None:
        assert (await Platform([part("a", [])], {}).health()).status == "down"

    async def test_component_without_a_health_check_does_not_count(self) -> None:
        @asynccontextmanager
        async def plain(_: Platform) -> AsyncIterator[object]:
            yield object()

        async with Platform([opening("a", plain)], {}) as platform:
            assert await platform.health() == Health("ok")

    async def test_component_that_hangs_is_down_and_delays_no_other(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(platform_module, "_HEALTH_TIMEOUT", 0.05)
        released = asyncio.Event()

        class Stubborn(Part):
            async def health(self) -> Health:
                while not released.is_set():
                    try:
                        await released.wait()
                    except asyncio.CancelledError:
                        continue
                return Health("ok")

        stubborn = opening("a", lambda _: Stubborn("a", []))
        async with Platform([stubborn, part("b", [])], {}) as platform:
            async with asyncio.timeout(5):
                health = await platform.health()
            released.set()

        assert health.status == "down"
        assert "No answer within" in health.components["a"].detail
        assert health.components["b"].status == "ok"

    async def test_health_check_that_fails_is_down_without_the_text_of_its_error(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        class Broken(Part):
            async def health(self) -> Health:
                message = "postgresql://user:hunter2@host refused"
                raise OSError(message)

        async with Platform([opening("a", lambda _: Broken("a", []))], {}) as platform:
            health = await platform.health()

        assert health.components["a"].status == "down"
        assert "OSError" in health.components["a"].detail
        logged = capsys.readouterr().err
        assert "health_check_failed" in logged
        assert "hunter2" not in logged + health.components["a"].detail

    async def test_health_check_that_returns_something_else_is_down(self) -> None:
        class Wrong(Part):
            async def health(self) -> Health:
                return True  # type: ignore[return-value]  # the point of the test

        async with Platform([opening("a", lambda _: Wrong("a", []))], {}) as platform:
            assert (await platform.health()).components["a"].status == "down"

    async def test_asking_for_health_leaves_no_task_behind_when_cancelled(self) -> None:
        class Hanging(Part):
            async def health(self) -> Health:
                await asyncio.Event().wait()
                return Health("ok")

        async with Platform([opening("a", lambda _: Hanging("a", []))], {}) as platform:
            before = asyncio.all_tasks()
            asking = asyncio.create_task(platform.health())
            for _ in range(3):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait([asking])
            await asyncio.sleep(0)

            assert asyncio.all_tasks() == before


class TestDiscovery:
    @pytest.fixture
    def installed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
        """Install a distribution, as an installer would lay it out, that names a component."""
        monkeypatch.syspath_prepend(tmp_path)
        # Only what the test installs: the components of this checkout are not its subject.
        monkeypatch.setattr(sys, "path", [str(tmp_path)])
        for name in [name for name in sys.modules if name.startswith("sample_")]:
            monkeypatch.delitem(sys.modules, name)

        def install(name: str, code: str, *, points_at: str = "COMPONENT") -> None:
            (tmp_path / f"sample_{name}.py").write_text(code)
            metadata = tmp_path / f"sample_{name}-1.0.dist-info"
            metadata.mkdir()
            (metadata / "METADATA").write_text(f"Name: sample-{name}\nVersion: 1.0\n")
            (metadata / "entry_points.txt").write_text(
                f"[motadata.components]\n{name} = sample_{name}:{points_at}\n"
            )

        return install

    def test_installed_components_are_found_by_their_entry_points(
        self, installed: Callable[..., None]
    ) -> None:
        code = (
            "from motadata.core.platform import ComponentSpec\n"
            "COMPONENT = ComponentSpec(name={name!r}, open=None)\n"
        )
        installed("second", code.format(name="second"))
        installed("first", code.format(name="first"))

        assert [spec.name for spec in discover_components()] == ["first", "second"]

    def test_entry_point_that_cannot_be_imported_names_itself_and_the_missing_module(
        self, installed: Callable[..., None]
    ) -> None:
        installed("broken", "import sample_no_such_module\n")

        with pytest.raises(ConfigurationError, match="sample_no_such_module") as caught:
            discover_components()
        assert "sample_broken:COMPONENT" in str(caught.value)

    @pytest.mark.parametrize("code", ["1 / 0\n", "this is no Python\n", ""])
    def test_entry_point_whose_module_fails_is_a_typed_error(
        self, installed: Callable[..., None], code: str
    ) -> None:
        installed("broken", code)

        with pytest.raises(ConfigurationError, match="sample_broken:COMPONENT"):
            discover_components()

    def test_entry_point_of_something_else_is_a_typed_error(
        self, installed: Callable[..., None]
    ) -> None:
        installed("wrong", "COMPONENT = 'nothing'\n")

        with pytest.raises(ConfigurationError, match="is no ComponentSpec"):
            discover_components()


class TestCreatePlatform:
    @pytest.fixture
    def without_database(self) -> ComponentSpec:
        return part("database", [])

    async def test_core_brings_a_cache_bounded_by_its_settings(
        self, without_database: ComponentSpec
    ) -> None:
        environment = {
            "MOTADATA_CACHE_MAX_SIZE": "2",
            "MOTADATA_CACHE_TTL": "60",
            "MOTADATA_CACHE_TENANT_MAX_BYTES": "1000",
        }
        async with create_platform(environment, components=[without_database]) as platform:
            assert isinstance(platform.cache, MemoryCache)
            for key in ("a", "b", "c"):
                await platform.cache.set(key, 1, tenant_id="acme")

            assert platform.cache.statistics().entries == 2
            await platform.cache.set("large", "x" * 2_000, tenant_id="acme")
            assert await platform.cache.get("large", tenant_id="acme") is None

    async def test_setting_that_does_not_fit_is_an_error_that_names_the_variable(
        self, without_database: ComponentSpec
    ) -> None:
        platform = create_platform({"MOTADATA_CACHE_MAX_SIZE": "0"}, components=[without_database])
        with pytest.raises(ConfigurationError, match="MOTADATA_CACHE_MAX_SIZE"):
            await platform.__aenter__()

    async def test_component_given_takes_over_a_role_of_core(
        self, without_database: ComponentSpec
    ) -> None:
        mine = part("cache", [])
        async with create_platform({}, components=[mine, without_database]) as platform:
            assert isinstance(platform.cache, Part)
            assert platform.roles.count("cache") == 1
