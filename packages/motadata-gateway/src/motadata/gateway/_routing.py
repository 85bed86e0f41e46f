"""Which provider serves a model: the one that the part of its name before the slash names.

A name that routing knows as a group of models belongs to whoever serves the first of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final, Protocol, runtime_checkable

from motadata.core.errors import ConfigurationError
from motadata.core.models import Health, HealthStatus
from motadata.gateway._provider import Provider


OFFLINE: Final = "motadata"


@runtime_checkable
class NamesGroups(Protocol):
    """What lets one name stand for several models, one of which answers."""

    @property
    def groups(self) -> Mapping[str, tuple[str, ...]]:
        """The full names of the models that may answer, by what is asked."""
        ...


class Routes:
    """The providers of a gateway, by name.

    Args:
        providers: Who serves models.
        groups: Models that may answer to a name, by that name.

    Raises:
        ConfigurationError: Two have the same name, or nobody serves a model of a group.
    """

    def __init__(
        self, providers: Iterable[Provider], *, groups: Mapping[str, tuple[str, ...]] | None = None
    ) -> None:
        self._providers: dict[str, Provider] = {}
        self._groups = dict(groups or {})
        for provider in providers:
            if provider.name in self._providers:
                message = f"Two providers are named {provider.name!r}."
                raise ConfigurationError(message, remedy="Leave one out.")
            self._providers[provider.name] = provider
        for models in self._groups.values():
            for model in models:
                self.provider(model)

    def full_name(self, model: str) -> str:
        """Return `provider/model`; a bare name belongs to the only provider that is not offline.

        Raises:
            ConfigurationError: The name is bare, and there is no such provider, or several.
        """
        if "/" in model or model in self._groups:
            return model
        remote = [name for name in self._providers if name != OFFLINE]
        if len(remote) == 1:
            return f"{remote[0]}/{model}"
        message = f"The model {model[:200]!r} names no provider."
        raise ConfigurationError(message, remedy="Name it like 'openai/gpt-4o-mini'.")

    def provider(self, model: str) -> Provider:
        """Return who serves a model, given its full name.

        Raises:
            ConfigurationError: The gateway does not know that provider.
        """
        if "/" not in model and model in self._groups:
            model = self._groups[model][0]
        name = model.split("/", 1)[0]
        try:
            return self._providers[name]
        except KeyError:
            known = ", ".join(sorted(self._providers))
            message = f"The gateway has no provider {name[:100]!r} for the model {model[:200]!r}."
            remedy = f"Add it to `providers` or `api_keys`; it has: {known}."
            raise ConfigurationError(message, remedy=remedy) from None

    def answering(self, model: str) -> tuple[str, ...]:
        """Return the models that may answer to a name: those of its group, else itself."""
        return self._groups.get(model) or (model,)

    async def health(self, *models: str) -> Health:
        """Ask every provider; sick is the gateway if one is that serves one of `models`."""
        names = list(self._providers)
        states = await asyncio.gather(*(self._providers[name].health() for name in names))
        components = dict(zip(names, states, strict=True))
        needed = {self.provider(self.full_name(model)).name for model in models}
        sick = [components[name] for name in sorted(needed) if components[name].status != "ok"]
        down = any(state.status == "down" for state in sick)
        status: HealthStatus = "down" if down else "degraded" if sick else "ok"
        detail = " ".join(state.detail for state in sick)
        return Health(status, detail=detail, components=components)

    async def aclose(self) -> None:
        """Close every provider, also when one fails to."""
        await asyncio.gather(*(provider.aclose() for provider in self._providers.values()))
