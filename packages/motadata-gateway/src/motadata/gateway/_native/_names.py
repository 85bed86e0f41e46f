"""Where the providers are that speak OpenAI's wire format, and which variable holds their key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class Compatible:
    """A provider that speaks OpenAI's wire format.

    Attributes:
        base_url: Its own address.
        variable: The environment variable that usually holds its key; empty when it needs none.
        asks_usage: Whether a stream says what it used only when asked.
        renamed: Its names for parameters that it calls otherwise.
    """

    base_url: str
    variable: str = ""
    asks_usage: bool = True
    renamed: Mapping[str, str] = field(default_factory=dict)


COMPATIBLE: Final[Mapping[str, Compatible]] = MappingProxyType(
    {
        "openai": Compatible("https://api.openai.com/v1", "OPENAI_API_KEY"),
        "cerebras": Compatible("https://api.cerebras.ai/v1", "CEREBRAS_API_KEY"),
        "deepseek": Compatible("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
        "groq": Compatible("https://api.groq.com/openai/v1", "GROQ_API_KEY"),
        "mistral": Compatible(
            "https://api.mistral.ai/v1",
            "MISTRAL_API_KEY",
            asks_usage=False,
            renamed={"seed": "random_seed"},
        ),
        "nvidia_nim": Compatible("https://integrate.api.nvidia.com/v1", "NVIDIA_NIM_API_KEY"),
        "openrouter": Compatible("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
        "together": Compatible("https://api.together.xyz/v1", "TOGETHER_API_KEY"),
        "together_ai": Compatible("https://api.together.xyz/v1", "TOGETHERAI_API_KEY"),
        "xai": Compatible("https://api.x.ai/v1", "XAI_API_KEY"),
        "hosted_vllm": Compatible("http://localhost:8000/v1"),
        "llamafile": Compatible("http://localhost:8080/v1"),
        "lm_studio": Compatible("http://localhost:1234/v1"),
        "ollama": Compatible("http://localhost:11434/v1"),
        "vllm": Compatible("http://localhost:8000/v1"),
    }
)
