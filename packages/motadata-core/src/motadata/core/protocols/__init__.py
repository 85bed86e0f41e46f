"""The contracts by which components meet; none of them knows another's package.

Each is a `typing.Protocol`: any object that fits will do. `motadata.core.testing` holds a suite of
tests for each, which an implementation, ours or yours, subclasses to prove that it fits.
"""

from motadata.core.protocols.agent import Agent, Memory
from motadata.core.protocols.cache import Cache
from motadata.core.protocols.codec import Codec
from motadata.core.protocols.component import Component
from motadata.core.protocols.database import (
    Database,
    Isolation,
    Metric,
    Notification,
    Precision,
    Row,
    Transaction,
    VectorStore,
)
from motadata.core.protocols.feedback import FeedbackLog
from motadata.core.protocols.gateway import CachePolicy, Gateway
from motadata.core.protocols.guardrail import (
    STREAM_WINDOW,
    Finding,
    FindingAction,
    GuardedStage,
    GuardedText,
    Guardrail,
    StreamReach,
)
from motadata.core.protocols.ingestion import (
    DocumentLoader,
    FileOutcome,
    IngestionService,
    Stage,
    UploadProgress,
    UploadReport,
)
from motadata.core.protocols.knowledge_base import KnowledgeBase
from motadata.core.protocols.message_bus import (
    BusMessage,
    ConsumerOptions,
    DeadLetter,
    Durability,
    Handler,
    MessageBus,
    PublishedMessage,
    Subscription,
)
from motadata.core.protocols.predictor import Predictor
from motadata.core.protocols.resilience import Breakers, RateLimiter, RetryBudget
from motadata.core.protocols.usage import UsageGroup, UsageReader, UsageTotal


__all__ = [
    "STREAM_WINDOW",
    "Agent",
    "Breakers",
    "BusMessage",
    "Cache",
    "CachePolicy",
    "Codec",
    "Component",
    "ConsumerOptions",
    "Database",
    "DeadLetter",
    "DocumentLoader",
    "Durability",
    "FeedbackLog",
    "FileOutcome",
    "Finding",
    "FindingAction",
    "Gateway",
    "GuardedStage",
    "GuardedText",
    "Guardrail",
    "Handler",
    "IngestionService",
    "Isolation",
    "KnowledgeBase",
    "Memory",
    "MessageBus",
    "Metric",
    "Notification",
    "Precision",
    "Predictor",
    "PublishedMessage",
    "RateLimiter",
    "RetryBudget",
    "Row",
    "Stage",
    "StreamReach",
    "Subscription",
    "Transaction",
    "UploadProgress",
    "UploadReport",
    "UsageGroup",
    "UsageReader",
    "UsageTotal",
    "VectorStore",
]
