"""How a gateway is made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from pydantic import SecretStr

from motadata.core.errors import ConfigurationError, ValidationError
from motadata.core.protocols import Cache
from motadata.gateway._call import ChatStep, EmbeddingStep
from motadata.gateway._deduplication import Deduplication
from motadata.gateway._embedding_batches import EmbeddingBatches
from motadata.gateway._gateway import LLMGateway
from motadata.gateway._keys import KeySource
from motadata.gateway._litellm import LiteLLMProvider
from motadata.gateway._native import COMPATIBLE, AnthropicProvider, OpenAIProvider
from motadata.gateway._offline import EMBEDDING_MODEL, EXTRACTIVE_MODEL, OfflineProvider
from motadata.gateway._provider import Provider
from motadata.gateway._requests import check_model
from motadata.gateway._routing import OFFLINE, NamesGroups, Routes
from motadata.gateway._steps import Governance, chat_steps, embedding_steps
from motadata.gateway._tenant_keys import TenantKeys
from motadata.gateway.usage import Pricing


_MAX_TIMEOUT: Final = 86_400.0
_MAX_THREADS: Final = 16
_BY_LITELLM: Final = "litellm:"


def create_gateway(  # noqa: PLR0913 - all but three by name, and each has a default
    providers: Iterable[str | Provider] | None = None,
    default_model: str = EXTRACTIVE_MODEL,
    api_keys: Mapping[str, str | SecretStr] | None = None,
    *,
    default_embedding_model: str = EMBEDDING_MODEL,
    cache: Cache | None = None,
    base_urls: Mapping[str, str] | None = None,
    tenant_keys: KeySource | None = None,
    timeout: float = 60.0,
    embedding_threads: int = 1,
    governance: Governance | None = None,
    arrange: Callable[[tuple[ChatStep, ...]], Sequence[ChatStep]] = tuple,
    arrange_embedding: Callable[[tuple[EmbeddingStep, ...]], Sequence[EmbeddingStep]] = tuple,
) -> LLMGateway:
    """Return a gateway to the offline models and to the providers that are named.

        async with create_gateway(["openai"], "openai/gpt-4o-mini", {"openai": key}) as gateway:
            answer = await gateway.generate_async("Hello", tenant_id="acme")

    Args:
        providers: Names of providers (`openai`, `anthropic`, `ollama`…), or objects that serve
            models themselves. Anthropic and those that speak OpenAI's wire format are called
            directly, all others through litellm, as is any by the name `litellm:openai`. None
            means whatever has a key or an address. The offline models are there in any case.
        default_model: What answers when a call names no model.
        api_keys: A key by provider. For a provider that is named in `providers` without one,
            the environment variables that are usual for it are looked at.
        default_embedding_model: What embeds when a call names no model.
        cache: The response cache; None means that every call reaches its provider.
        base_urls: Address by provider, when it is not the provider's own.
        tenant_keys: Knows the keys that tenants brought along, which are used in place of ours.
        timeout: Seconds for a call that names none.
        embedding_threads: Threads of the offline embedding model, 1 to 16.
        governance: What records, limits, pays, guards and routes the calls. None joins equal calls,
            prices them, and sends texts to embed together.
        arrange: Takes the steps of a conversation in their order and returns those to pass.
        arrange_embedding: The same for the steps of `embed`.

    Raises:
        ConfigurationError: A key, address or default model has no provider, or a number no sense.
    """
    _check_numbers(timeout, embedding_threads)
    served = _served(providers, api_keys or {}, base_urls or {}, tenant_keys)
    governance = governance or _usual()
    routing: object = governance.routing
    groups = routing.groups if isinstance(routing, NamesGroups) else None
    routes = Routes([OfflineProvider(threads=embedding_threads), *served], groups=groups)
    _check_defaults(routes, default_model, default_embedding_model)
    return LLMGateway(
        routes,
        default_model=default_model,
        default_embedding_model=default_embedding_model,
        cache=cache,
        timeout=timeout,
        chat_steps=arrange(chat_steps(governance)),
        embedding_steps=arrange_embedding(embedding_steps(governance)),
        parts=governance.parts(),
        policy=_policy(governance),
    )


def _usual() -> Governance:
    return Governance(deduplication=Deduplication(), prices=Pricing(), batches=EmbeddingBatches())


def _served(
    providers: Iterable[str | Provider] | None,
    api_keys: Mapping[str, str | SecretStr],
    base_urls: Mapping[str, str],
    tenant_keys: KeySource | None,
) -> list[Provider]:
    """Return the providers that are named, each with its key and its address."""
    keys = {name: _secret(name, key) for name, key in api_keys.items()}
    urls = dict(base_urls)
    if isinstance(providers, str):
        message = f"providers={providers!r} is a string."
        raise ConfigurationError(message, remedy=f"Pass [{providers!r}].")
    wanted = sorted({*keys, *urls}) if providers is None else list(providers)
    served: list[Provider] = [
        _provider(item, keys, urls, tenant_keys) if isinstance(item, str) else item
        for item in wanted
        if item != OFFLINE
    ]
    for name in [*keys, *urls]:
        message = f"There is a key or an address for {name!r}, which is none of the providers."
        raise ConfigurationError(message, remedy="Add it to `providers`, or leave it out of both.")
    if isinstance(tenant_keys, TenantKeys):
        tenant_keys.add_providers(provider.name for provider in served)
    return served


def _provider(
    wanted: str,
    keys: dict[str, SecretStr],
    urls: dict[str, str],
    tenant_keys: KeySource | None,
) -> Provider:
    """Return who serves a name, and take its key and address out of the rest."""
    name = wanted.removeprefix(_BY_LITELLM)
    key, url = keys.pop(name, None), urls.pop(name, None)
    if name == wanted == "anthropic":
        return AnthropicProvider(name, api_key=key, base_url=url, keys=tenant_keys)
    if name == wanted and name in COMPATIBLE:
        return OpenAIProvider(name, api_key=key, base_url=url, keys=tenant_keys)
    return LiteLLMProvider(name, api_key=key, base_url=url, keys=tenant_keys)


def _policy(governance: Governance) -> str:
    """Return the version of everybody's guardrail policy; a tenant's own replaces it per call."""
    part = governance.guardrail_outputs or governance.guardrail_inputs
    return str(getattr(part, "version", ""))


def _check_defaults(routes: Routes, *models: str) -> None:
    for model in models:
        try:
            check_model(model)
        except ValidationError as error:
            raise ConfigurationError(str(error), remedy="Choose another default model.") from None
        routes.provider(routes.full_name(model))


def _secret(name: str, key: str | SecretStr) -> SecretStr:
    given: object = key
    if not isinstance(given, str | SecretStr):
        message = f"The key of the provider {name!r} is a {type(given).__name__}."
        raise ConfigurationError(message, remedy="Give it as a SecretStr, or as a text.")
    secret = key if isinstance(key, SecretStr) else SecretStr(key)
    if not secret.get_secret_value().strip():
        message = f"The key of the provider {name!r} is empty."
        raise ConfigurationError(message, remedy="Give the key, or leave the provider out.")
    return secret


def _check_numbers(timeout: float, embedding_threads: int) -> None:
    seconds: object = timeout
    if not isinstance(seconds, int | float) or not 0 < seconds <= _MAX_TIMEOUT:
        message = f"timeout={timeout!r} is no number of seconds."
        raise ConfigurationError(message, remedy="Pass more than 0 and at most 86400.")
    if not 1 <= embedding_threads <= _MAX_THREADS:
        message = f"embedding_threads={embedding_threads!r} is out of range."
        raise ConfigurationError(message, remedy="Pass 1 to 16.")
