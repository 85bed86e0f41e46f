"""Composition by discovery: find the installed components, open them in order, close them again.

    async with create_platform() as platform:
        answer = await platform.knowledge_base.query("Who approves a change?", tenant_id="acme")

A distribution takes part by an entry point in the group `motadata.components` that names a
`ComponentSpec`. Core itself brings `database` and `cache`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import entry_points
from types import TracebackType
from typing import Final, Self, cast

from motadata.core.errors import ConfigurationError
from motadata.core.models import Health
from motadata.core.observability import get_logger, prepare_logging
from motadata.core.protocols import Cache, Database, Gateway, IngestionService, KnowledgeBase


ENTRY_POINT_GROUP: Final = "motadata.components"
_HEALTH_TIMEOUT: Final = 2.0
_OPENING_TIMEOUT: Final = 120.0
"""Seconds: an embedded server that makes its data directory first takes ten on a slow machine."""
_SEVERITY: Final = {"ok": 0, "degraded": 1, "down": 2}
_DISTRIBUTIONS: Final = {
    "gateway": "motadata-gateway",
    "knowledge_base": "motadata-rag",
    "ingestion": "motadata-ingest",
}

_log = get_logger("platform")


@dataclass(frozen=True, slots=True)
class ComponentSpec:
    """What a distribution offers to a platform.

    Attributes:
        name: The role that it fills, such as `gateway` or `knowledge_base`; one component a role.
        open: Returns the async context manager whose value is the component. Everything in
            `requires` is open by then, and everything in `uses` that is installed.
        requires: Roles without which it cannot work.
        uses: Roles that it takes when they are there.
        migrations: Import name of the package that holds its `NNNN_title.sql` files.
    """

    name: str
    open: Callable[[Platform], AbstractAsyncContextManager[object]]
    requires: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    migrations: str | None = None


class Platform:
    """The open components of one process, by role. Built by `create_platform`."""

    def __init__(
        self,
        specs: Iterable[ComponentSpec],
        environment: Mapping[str, str],
        *,
        opening_timeout: float = _OPENING_TIMEOUT,
    ) -> None:
        self.environment = environment
        self._opening_timeout = opening_timeout
        self._specs = _in_dependency_order(specs)
        self._components: dict[str, object] = {}
        self._stack = AsyncExitStack()
        self._is_entered = False

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that are filled, in the order in which they open."""
        return tuple(spec.name for spec in self._specs)

    @property
    def migrations(self) -> tuple[str, ...]:
        """Packages of migrations of all components, those of a component's requirements first."""
        return tuple(spec.migrations for spec in self._specs if spec.migrations)

    @property
    def database(self) -> Database:
        """The database.

        Raises:
            ConfigurationError: The platform is not open.
        """
        return cast("Database", self.component("database"))

    @property
    def cache(self) -> Cache:
        """The cache.

        Raises:
            ConfigurationError: The platform is not open.
        """
        return cast("Cache", self.component("cache"))

    @property
    def gateway(self) -> Gateway:
        """The LLM gateway.

        Raises:
            ConfigurationError: None is installed, or the platform is not open.
        """
        return cast("Gateway", self.component("gateway"))

    @property
    def knowledge_base(self) -> KnowledgeBase:
        """The knowledge base.

        Raises:
            ConfigurationError: None is installed, or the platform is not open.
        """
        return cast("KnowledgeBase", self.component("knowledge_base"))

    @property
    def ingestion(self) -> IngestionService:
        """The ingestion service.

        Raises:
            ConfigurationError: None is installed, or the platform is not open.
        """
        return cast("IngestionService", self.component("ingestion"))

    def has(self, role: str) -> bool:
        """Tell whether a role is filled and open."""
        return role in self._components

    def component(self, role: str) -> object:
        """Return the open component of a role.

        Raises:
            ConfigurationError: None is installed, or the platform is not open.
        """
        try:
            return self._components[role]
        except KeyError:
            if role in self.roles:
                message = f"The component {role!r} is not open."
                remedy = "Use the platform within `async with create_platform() as platform:`."
            else:
                message = f"No installed distribution provides {role!r}."
                remedy = f"Install {_DISTRIBUTIONS.get(role, 'one that does')}."
            raise ConfigurationError(message, remedy=remedy) from None

    async def health(self) -> Health:
        """Ask every component at once; the platform is as healthy as its sickest component.

        A component that does not answer within two seconds, or that fails to, is down.
        """
        asked = [item for item in self._components.items() if hasattr(item[1], "health")]
        # Tasks, not timeouts: a component that swallows its cancellation must not keep the answer.
        tasks = {name: asyncio.create_task(_ask(name, component)) for name, component in asked}
        try:
            if tasks:
                await asyncio.wait(tasks.values(), timeout=_HEALTH_TIMEOUT)
            silent = Health("down", detail=f"No answer within {_HEALTH_TIMEOUT:g} s.")
            states = {
                name: task.result() if task.done() and not task.cancelled() else silent
                for name, task in tasks.items()
            }
        finally:
            for task in tasks.values():
                task.cancel()
        if not self._components:
            return Health("down", detail="The platform is not open.")
        sickest = max(
            states.values(), key=lambda state: _SEVERITY[state.status], default=Health("ok")
        )
        return Health(sickest.status, components=states)

    async def __aenter__(self) -> Self:
        """Open every component, each after those it requires.

        When one fails, those already open are closed again and its error goes on.

        Raises:
            ConfigurationError: It is open already.
            DeadlineExceededError: A component did not open in its time.
        """
        if self._is_entered:
            message = "The platform is open already."
            raise ConfigurationError(message, remedy="Enter it once, and share the open platform.")
        self._is_entered = True
        # Here: describing a platform, as `doctor` and migrations do, needs none of it.
        from motadata.core.resilience import time_limit

        try:
            # The first log line would import structlog on the event loop.
            await asyncio.to_thread(prepare_logging)
            async with AsyncExitStack() as stack:
                for spec in self._specs:
                    async with time_limit(self._opening_timeout, what=f"component {spec.name!r}"):
                        component = await stack.enter_async_context(spec.open(self))
                    self._components[spec.name] = component
                    stack.callback(self._components.pop, spec.name, None)
                    _log.debug("component_opened", role=spec.name)
                self._stack = stack.pop_all()
        except BaseException:
            self._is_entered = False
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close every component, the last opened first."""
        try:
            await self._stack.__aexit__(kind, error, traceback)
        finally:
            self._is_entered = False


def create_platform(
    environment: Mapping[str, str] | None = None,
    *,
    components: Iterable[ComponentSpec] | None = None,
    opening_timeout: float = _OPENING_TIMEOUT,
) -> Platform:
    """Compose what is installed.

    Args:
        environment: Where every component reads its settings; None means the process's environment.
        components: What to compose besides core's own; None means what the entry points name. One
            whose role core fills itself takes that role over.
        opening_timeout: Seconds that each component may take to open.

    Raises:
        ConfigurationError: An entry point cannot be loaded, two components fill one role, a
            requirement is missing, or requirements go round in a circle.
    """
    from motadata.core._builtin import BUILTIN_COMPONENTS

    chosen = list(discover_components() if components is None else components)
    taken = {spec.name for spec in chosen}
    builtin = [spec for spec in BUILTIN_COMPONENTS if spec.name not in taken]
    return Platform(
        [*builtin, *chosen],
        os.environ if environment is None else environment,
        opening_timeout=opening_timeout,
    )


def discover_components() -> list[ComponentSpec]:
    """Return what the entry points of the installed distributions name, by name.

    Raises:
        ConfigurationError: One cannot be imported, or names something else than a `ComponentSpec`.
    """
    found = []
    for point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: point.name):
        try:
            spec = point.load()
        except Exception as error:
            # Somebody else's module runs here and may raise anything; the cause says what.
            reason = str(error) if isinstance(error, ImportError) else type(error).__name__
            message = f"The component {point.value!r} cannot be loaded: {reason}."
            raise ConfigurationError(
                message, remedy="Install its dependencies, or uninstall the distribution."
            ) from error
        if not isinstance(spec, ComponentSpec):
            message = f"The entry point {point.value!r} is no ComponentSpec."
            raise ConfigurationError(message, remedy="Point it at a ComponentSpec object.")
        found.append(spec)
    return found


def _in_dependency_order(specs: Iterable[ComponentSpec]) -> list[ComponentSpec]:
    by_name: dict[str, ComponentSpec] = {}
    for spec in specs:
        if spec.name in by_name:
            message = f"Two components provide {spec.name!r}."
            raise ConfigurationError(message, remedy="Uninstall one, or pass components=[…].")
        by_name[spec.name] = spec
    for spec in by_name.values():
        for role in spec.requires:
            if role not in by_name:
                message = f"The component {spec.name!r} requires {role!r}, which nothing provides."
                remedy = f"Install {_DISTRIBUTIONS.get(role, 'a distribution that does')}."
                raise ConfigurationError(message, remedy=remedy)
    graph = {
        spec.name: [*spec.requires, *(role for role in spec.uses if role in by_name)]
        for spec in by_name.values()
    }
    try:
        return [by_name[name] for name in TopologicalSorter(graph).static_order()]
    except CycleError as error:
        message = f"Components require each other in a circle: {' → '.join(error.args[1])}."
        raise ConfigurationError(
            message, remedy="Let one of them look the other up when it first needs it."
        ) from error


async def _ask(name: str, component: object) -> Health:
    try:
        state = await component.health()  # type: ignore[attr-defined]  # checked by the caller
    except Exception as error:  # noqa: BLE001 - a broken check must not hide the other components'
        _log.error("health_check_failed", role=name, error=error)
        return Health("down", detail=f"Its health check failed ({type(error).__name__}).")
    if not isinstance(state, Health):
        return Health("down", detail=f"Its health check returned a {type(state).__name__}.")
    return state
