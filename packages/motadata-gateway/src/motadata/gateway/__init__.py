"""One door to every model: litellm's providers by name and key, and offline models without either.

    async with create_gateway() as gateway:
        vectors = await gateway.embed(["Reset a VPN token"], tenant_id="acme")

Importing this package imports neither litellm nor numpy; the first call that needs one does.
"""

from motadata.gateway._call import (
    Attribution,
    Call,
    CallNotes,
    CallPart,
    ChatStep,
    EmbeddingStep,
    Proceed,
    Verdict,
)
from motadata.gateway._deduplication import Deduplication
from motadata.gateway._embedding_batches import BatchPolicy, EmbeddingBatches
from motadata.gateway._estimates import Estimator
from motadata.gateway._extractive import UNKNOWN
from motadata.gateway._factory import create_gateway
from motadata.gateway._gateway import LLMGateway
from motadata.gateway._keys import KeySource
from motadata.gateway._limits import Limits, ProviderLimits
from motadata.gateway._litellm import LiteLLMProvider
from motadata.gateway._native import AnthropicProvider, HttpLimits, OpenAIProvider
from motadata.gateway._offline import EMBEDDING_MODEL, EXTRACTIVE_MODEL
from motadata.gateway._provider import ALIVE, Provider
from motadata.gateway._rates import Rate, Sharing
from motadata.gateway._rendering import render_message
from motadata.gateway._requests import ChatOptions, ChatRequest, EmbeddingRequest
from motadata.gateway._semantic_cache import SemanticCache, SemanticPolicy
from motadata.gateway._steps import Governance
from motadata.gateway._structured import Structured
from motadata.gateway._tenant_keys import TenantKeyInfo, TenantKeys
from motadata.gateway._version import __version__


__all__ = [
    "ALIVE",
    "EMBEDDING_MODEL",
    "EXTRACTIVE_MODEL",
    "UNKNOWN",
    "AnthropicProvider",
    "Attribution",
    "BatchPolicy",
    "Call",
    "CallNotes",
    "CallPart",
    "ChatOptions",
    "ChatRequest",
    "ChatStep",
    "Deduplication",
    "EmbeddingBatches",
    "EmbeddingRequest",
    "EmbeddingStep",
    "Estimator",
    "Governance",
    "HttpLimits",
    "KeySource",
    "LLMGateway",
    "Limits",
    "LiteLLMProvider",
    "OpenAIProvider",
    "Proceed",
    "Provider",
    "ProviderLimits",
    "Rate",
    "SemanticCache",
    "SemanticPolicy",
    "Sharing",
    "Structured",
    "TenantKeyInfo",
    "TenantKeys",
    "Verdict",
    "__version__",
    "create_gateway",
    "render_message",
]
