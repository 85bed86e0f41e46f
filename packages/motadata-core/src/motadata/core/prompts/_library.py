"""Finds templates in their sources, renders them beside the event loop, falls back on another."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from motadata.core.errors import (
    ConfigurationError,
    DatabaseError,
    DeadlineExceededError,
    PromptError,
    PromptNotFoundError,
)
from motadata.core.models import Record
from motadata.core.observability import get_logger
from motadata.core.prompts._sources import PromptSource
from motadata.core.prompts._template import PromptTemplate
from motadata.core.tenancy import Identifier, TenantId, resolve_tenant


_log = get_logger("prompts")


@dataclass(frozen=True, slots=True)
class RenderedPrompt(Record):
    """A prompt, and which template it came from.

    Attributes:
        is_fallback: Whether it came from the fallback, because what was asked for failed.
    """

    text: str
    name: str
    version: int
    is_fallback: bool = False

    def __repr__(self) -> str:
        """Show where it came from; its text is nobody's business in a log."""
        return f"RenderedPrompt({self.name!r}, version={self.version}, {len(self.text)} characters)"


class PromptLibrary:
    """Templates by name, from the first source that has them.

    Put a tenant's own before the platform's, `[DatabasePrompts(database), FilePrompts(folder)]`,
    and each tenant may replace what the platform brings.

    Args:
        sources: Where to look, in this order.
        timeout: Seconds that a source may take.

    Raises:
        ConfigurationError: There is no source, or the timeout is not positive.
    """

    def __init__(self, sources: Sequence[PromptSource], *, timeout: float = 10.0) -> None:
        if not sources or not timeout > 0:
            message = f"{len(sources)} sources and timeout={timeout!r} make no library."
            raise ConfigurationError(message, remedy="Pass at least one, and seconds above 0.")
        self._sources = tuple(sources)
        self._timeout = timeout

    async def get(
        self, name: str, *, version: int | None = None, tenant_id: str | None = None
    ) -> PromptTemplate:
        """Return a template.

        Args:
            name: Which.
            version: None means the active one.
            tenant_id: None means the tenant of the scope.

        Raises:
            PromptNotFoundError: No source has it.
            PromptTemplateError: It is there, and unfit.
            PromptError: A source did not answer in time.
            DatabaseError: A source could not be read.
        """
        return await self._get(Identifier(name), version, resolve_tenant(tenant_id))

    async def render(
        self,
        name: str,
        variables: Mapping[str, object] | None = None,
        *,
        version: int | None = None,
        fallback: str | PromptTemplate | None = None,
        tenant_id: str | None = None,
    ) -> RenderedPrompt:
        """Return the prompt for these variables.

        Args:
            name: Which template.
            variables: See `PromptTemplate.render`.
            version: None means the active one.
            fallback: What to render instead when that fails: the name of another, or a template
                that is at hand. It gets those of the variables that it has.
            tenant_id: None means the tenant of the scope.

        Raises:
            PromptError: It failed, and there is no fallback, or the fallback failed too.
            DatabaseError: A source could not be read, likewise.
            DeadlineExceededError: Reading it took longer than the surrounding deadline, likewise.
        """
        tenant = resolve_tenant(tenant_id)
        prompt = Identifier(name)
        given = dict(variables or {})
        try:
            template = await self._get(prompt, version, tenant)
            return await self._render(template, given, tenant)
        except (PromptError, DatabaseError, DeadlineExceededError) as error:
            if fallback is None:
                raise
            _log.warning("prompt_fell_back", prompt_name=name, tenant=tenant, error=error)
        if isinstance(fallback, str):
            fallback = await self._get(Identifier(fallback), None, tenant)
        known = {key: value for key, value in given.items() if key in fallback.variables}
        return await self._render(fallback, known, tenant, is_fallback=True)

    async def _get(self, name: Identifier, version: int | None, tenant: TenantId) -> PromptTemplate:
        for source in self._sources:
            try:
                async with asyncio.timeout(self._timeout):
                    found = await source.find(name, version, tenant)
            except TimeoutError as error:
                message = f"The prompt {name!r} was not found within {self._timeout:g} s."
                raise PromptError(
                    message, remedy="Repeat later.", tenant_id=tenant, retryable=True
                ) from error
            if found is not None:
                return found
        which = f"version {version} of the prompt" if version is not None else "active prompt"
        message = f"There is no {which} {str(name)!r}."
        raise PromptNotFoundError(
            message, remedy="Add it to one of the library's sources.", tenant_id=tenant
        )

    async def _render(
        self,
        template: PromptTemplate,
        variables: Mapping[str, object],
        tenant: TenantId,
        *,
        is_fallback: bool = False,
    ) -> RenderedPrompt:
        try:
            # The thread ends by itself: the template's own limits see to that.
            text = await asyncio.to_thread(template.render, variables)
        except PromptError as error:
            error.tenant_id = tenant
            raise
        return RenderedPrompt(text, template.name, template.version, is_fallback)
