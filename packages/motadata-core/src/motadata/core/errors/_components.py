"""What agents, retrieval, ingestion and machine learning raise."""

from __future__ import annotations

from motadata.core.errors._base import SDKError


class AgentError(SDKError):
    """Base of what agents raise."""

    code = "agent_error"
    component = "agents"


class AgentConfigurationError(AgentError):
    """An agent was built from settings that cannot work."""

    code = "agent_configuration_error"


class AgentExecutionError(AgentError):
    """A task failed while an agent ran it."""

    code = "agent_execution_error"


class AgentCommunicationError(AgentError):
    """A message between agents was not delivered or was not understood."""

    code = "agent_communication_error"
    default_retryable = True


class RAGError(SDKError):
    """Base of what retrieval-augmented generation raises."""

    code = "rag_error"
    component = "rag"


class DocumentProcessingError(RAGError):
    """A document could not be chunked, embedded or stored; nothing of it was kept."""

    code = "document_processing_error"


class DocumentNotFoundError(RAGError):
    """The tenant has no document of that id."""

    code = "document_not_found"


class RetrievalError(RAGError):
    """A query could not be answered from the stored documents."""

    code = "retrieval_error"


class IngestionError(SDKError):
    """Base of what ingestion raises for a file; nothing of the file was stored."""

    code = "ingestion_error"
    component = "ingest"


class EmptyFileError(IngestionError):
    """The file has no content, or none that can be read as text."""

    code = "empty_file"


class FileTooLargeError(IngestionError):
    """The file, or what it unpacks to, is above the limit."""

    code = "file_too_large"


class UnsupportedFormatError(IngestionError):
    """Nothing installed reads files of this kind."""

    code = "unsupported_format"


class UnreadableFileError(IngestionError):
    """The content is damaged, encrypted, or not what its name says."""

    code = "unreadable_file"


class LoaderCrashedError(IngestionError):
    """The isolated process that read the file died or ran out of time or memory."""

    code = "loader_crashed"


class MLError(SDKError):
    """Base of what the machine-learning framework raises."""

    code = "ml_error"
    component = "ml"
