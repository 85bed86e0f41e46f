r"""Prompts: versioned templates, their storage, variants, token estimates and context windows.

    template = PromptTemplate("triage", "Sort this incident:\n{{ incident }}")
    prompt = template.render({"incident": text})

Templates need the extra `prompts`; the rest needs nothing.
"""

from motadata.core.prompts._data_blocks import DATA_NOTICE, data_block, make_inert
from motadata.core.prompts._experiments import (
    Experiment,
    PromptOutcomes,
    Variant,
    VariantSummary,
)
from motadata.core.prompts._library import PromptLibrary, RenderedPrompt
from motadata.core.prompts._limits import PromptLimits
from motadata.core.prompts._sources import FilePrompts, PromptSource
from motadata.core.prompts._stored import DatabasePrompts, PromptVersion
from motadata.core.prompts._template import PromptTemplate
from motadata.core.prompts._tokens import (
    EstimatedTokens,
    TiktokenTokens,
    TokenCounter,
    count_message,
    create_token_counter,
)
from motadata.core.prompts._values import PlainValue
from motadata.core.prompts._window import (
    BuiltContext,
    ContextItem,
    ContextWindow,
    DroppedMessage,
    DropReason,
)


__all__ = [
    "DATA_NOTICE",
    "BuiltContext",
    "ContextItem",
    "ContextWindow",
    "DatabasePrompts",
    "DropReason",
    "DroppedMessage",
    "EstimatedTokens",
    "Experiment",
    "FilePrompts",
    "PlainValue",
    "PromptLibrary",
    "PromptLimits",
    "PromptOutcomes",
    "PromptSource",
    "PromptTemplate",
    "PromptVersion",
    "RenderedPrompt",
    "TiktokenTokens",
    "TokenCounter",
    "Variant",
    "VariantSummary",
    "count_message",
    "create_token_counter",
    "data_block",
    "make_inert",
]
