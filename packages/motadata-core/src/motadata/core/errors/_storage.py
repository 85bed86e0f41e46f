"""What keeps, carries and encodes values: database, cache, bus and codecs."""

from __future__ import annotations

from motadata.core.errors._base import SDKError


class DatabaseError(SDKError):
    """Base of what the database adapter raises."""

    code = "database_error"
    component = "database"


class ConnectionError(DatabaseError):  # noqa: A001 - the name that the SDK's users were promised
    """The database cannot be reached, or the connection broke before the outcome was known."""

    code = "database_connection_error"
    default_retryable = True


class QueryError(DatabaseError):
    """The database refused a statement, or it ran out of time."""

    code = "database_query_error"


class MigrationError(DatabaseError):
    """A migration failed, was edited after it had run, or left a table without isolation."""

    code = "migration_error"


class CacheError(SDKError):
    """A cache was misused, or its server failed in a way that cannot be treated as a miss."""

    code = "cache_error"
    component = "cache"


class MessagingError(SDKError):
    """A message could not be published, delivered or understood."""

    code = "messaging_error"
    component = "messaging"
    default_retryable = True


class CodecError(SDKError):
    """Bytes are not a valid encoding, or a value has none."""

    code = "codec_error"
    component = "codec"
