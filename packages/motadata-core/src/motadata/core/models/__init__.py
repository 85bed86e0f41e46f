"""The values that travel between components.

All are frozen dataclasses that also read as mappings (`answer["answer"]`) and have a plain form
(`answer.to_dict()`). Validation of what comes from outside happens before they are built.
"""

from motadata.core.models._record import Record
from motadata.core.models.answers import Answer, Citation, RetrievedChunk
from motadata.core.models.completions import (
    Completion,
    CompletionChunk,
    Embeddings,
    FinishReason,
    Usage,
)
from motadata.core.models.documents import Document, DocumentInfo, IngestedDocument, Section
from motadata.core.models.feedback import (
    CommonCorrection,
    Correction,
    FeedbackInsights,
    FeedbackReceipt,
    Flag,
    FlagReason,
    Insight,
    Rating,
    Signal,
    Vote,
)
from motadata.core.models.health import Health, HealthStatus
from motadata.core.models.messages import Message, Passage, Role, ToolCall, ToolDefinition
from motadata.core.models.tasks import TaskResult


__all__ = [
    "Answer",
    "Citation",
    "CommonCorrection",
    "Completion",
    "CompletionChunk",
    "Correction",
    "Document",
    "DocumentInfo",
    "Embeddings",
    "FeedbackInsights",
    "FeedbackReceipt",
    "FinishReason",
    "Flag",
    "FlagReason",
    "Health",
    "HealthStatus",
    "IngestedDocument",
    "Insight",
    "Message",
    "Passage",
    "Rating",
    "Record",
    "RetrievedChunk",
    "Role",
    "Section",
    "Signal",
    "TaskResult",
    "ToolCall",
    "ToolDefinition",
    "Usage",
    "Vote",
]
