"""The native lane: OpenAI-compatible and Anthropic providers over one pool of connections each.

Nothing here imports aiohttp before the first call needs it.
"""

from motadata.gateway._native._anthropic import AnthropicProvider
from motadata.gateway._native._http import HttpLimits
from motadata.gateway._native._names import COMPATIBLE
from motadata.gateway._native._openai import OpenAIProvider


__all__ = [
    "COMPATIBLE",
    "AnthropicProvider",
    "HttpLimits",
    "OpenAIProvider",
]
