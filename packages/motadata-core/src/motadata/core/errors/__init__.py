"""Every error that the SDK raises, in one tree, so that one component can catch another's.

```
SDKError
├── ConfigurationError
│   └── MissingExtraError
├── TenantError
│   ├── TenantRequiredError
│   └── InvalidIdentifierError
├── AgentError
│   ├── AgentConfigurationError
│   ├── AgentExecutionError
│   └── AgentCommunicationError
├── RAGError
│   ├── DocumentProcessingError
│   ├── DocumentNotFoundError
│   └── RetrievalError
├── GatewayError
│   ├── ProviderError
│   │   └── ContentPolicyError
│   ├── RateLimitError
│   ├── ValidationError
│   │   ├── ContextLengthError
│   │   ├── GuardrailError
│   │   └── OutputFormatError
│   ├── BudgetExceededError
│   └── CircuitOpenError
├── DatabaseError
│   ├── ConnectionError
│   ├── QueryError
│   └── MigrationError
├── IngestionError
│   ├── EmptyFileError
│   ├── FileTooLargeError
│   ├── UnsupportedFormatError
│   ├── UnreadableFileError
│   └── LoaderCrashedError
├── ResilienceError
│   ├── DeadlineExceededError
│   └── OverloadError
├── CacheError
├── MessagingError
├── CodecError
├── SecretError
│   ├── SecretNotFoundError
│   ├── SecretUnreadableError
│   └── KeyManagementError
├── PromptError
│   ├── PromptNotFoundError
│   ├── PromptTemplateError
│   ├── PromptVariableError
│   ├── PromptLimitError
│   └── ContextWindowError
├── MLError
└── AccessError
    ├── AuthenticationError
    └── PermissionDeniedError
```

A message names what was wrong, the offending value and the remedy. It never holds a secret, a
prompt or the text of a document. No exception of a third-party library leaves a public method
unwrapped: it is the `__cause__` of one of these.
"""

from __future__ import annotations

from motadata.core.errors._base import (
    ConfigurationError,
    MissingExtraError,
    SDKError,
)
from motadata.core.errors._components import (
    AgentCommunicationError,
    AgentConfigurationError,
    AgentError,
    AgentExecutionError,
    DocumentNotFoundError,
    DocumentProcessingError,
    EmptyFileError,
    FileTooLargeError,
    IngestionError,
    LoaderCrashedError,
    MLError,
    RAGError,
    RetrievalError,
    UnreadableFileError,
    UnsupportedFormatError,
)
from motadata.core.errors._gateway import (
    BudgetExceededError,
    CircuitOpenError,
    ContentPolicyError,
    ContextLengthError,
    GatewayError,
    GuardrailError,
    OutputFormatError,
    ProviderError,
    RateLimitError,
    ValidationError,
)
from motadata.core.errors._prompts import (
    ContextWindowError,
    PromptError,
    PromptLimitError,
    PromptNotFoundError,
    PromptTemplateError,
    PromptVariableError,
)
from motadata.core.errors._resilience import (
    DeadlineExceededError,
    OverloadError,
    ResilienceError,
)
from motadata.core.errors._security import (
    AccessError,
    AuthenticationError,
    KeyManagementError,
    PermissionDeniedError,
    SecretError,
    SecretNotFoundError,
    SecretUnreadableError,
)
from motadata.core.errors._storage import (
    CacheError,
    CodecError,
    ConnectionError,  # noqa: A004 - the name that the SDK's users were promised
    DatabaseError,
    MessagingError,
    MigrationError,
    QueryError,
)
from motadata.core.errors._tenancy import (
    InvalidIdentifierError,
    TenantError,
    TenantRequiredError,
)


__all__ = [
    "AccessError",
    "AgentCommunicationError",
    "AgentConfigurationError",
    "AgentError",
    "AgentExecutionError",
    "AuthenticationError",
    "BudgetExceededError",
    "CacheError",
    "CircuitOpenError",
    "CodecError",
    "ConfigurationError",
    "ConnectionError",
    "ContentPolicyError",
    "ContextLengthError",
    "ContextWindowError",
    "DatabaseError",
    "DeadlineExceededError",
    "DocumentNotFoundError",
    "DocumentProcessingError",
    "EmptyFileError",
    "FileTooLargeError",
    "GatewayError",
    "GuardrailError",
    "IngestionError",
    "InvalidIdentifierError",
    "KeyManagementError",
    "LoaderCrashedError",
    "MLError",
    "MessagingError",
    "MigrationError",
    "MissingExtraError",
    "OutputFormatError",
    "OverloadError",
    "PermissionDeniedError",
    "PromptError",
    "PromptLimitError",
    "PromptNotFoundError",
    "PromptTemplateError",
    "PromptVariableError",
    "ProviderError",
    "QueryError",
    "RAGError",
    "RateLimitError",
    "ResilienceError",
    "RetrievalError",
    "SDKError",
    "SecretError",
    "SecretNotFoundError",
    "SecretUnreadableError",
    "TenantError",
    "TenantRequiredError",
    "UnreadableFileError",
    "UnsupportedFormatError",
    "ValidationError",
]

# Tracebacks, logs and pickles name them as they are imported, not where they are written.
for _name in __all__:
    globals()[_name].__module__ = __name__
