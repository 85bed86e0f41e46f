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
from motadata.core.models.health import Health, HealthStatus
from motadata.core.models.messages import Message, Passage, Role, ToolCall, ToolDefinition
from motadata.core.models.tasks import TaskResult


__all__ = [
    "Answer",
    "Citation",
    "Completion",
    "CompletionChunk",
    "Document",
    "DocumentInfo",
    "Embeddings",
    "FinishReason",
    "Health",
    "HealthStatus",
    "IngestedDocument",
    "Message",
    "Passage",
    "Record",
    "RetrievedChunk",
    "Role",
    "Section",
    "TaskResult",
    "ToolCall",
    "ToolDefinition",
    "Usage",
]
