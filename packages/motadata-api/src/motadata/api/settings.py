"""What the HTTP API allows a caller to use."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr

from motadata.core.settings import Settings


_Positive = Annotated[int, Field(gt=0)]
_Seconds = Annotated[float, Field(gt=0)]


class ApiSettings(Settings, prefix="MOTADATA_API_"):
    """Limits of the HTTP API, each the most that one request may use.

    Attributes:
        max_upload_bytes: Body of an upload of files; it is spooled to disk.
        max_document_bytes: Body of a document sent as JSON; it is held in memory.
        max_query_bytes: Body of every other request.
        max_files: Files of one upload.
        max_uploads: Uploads that run at once, over all tenants.
        max_uploads_per_tenant: Uploads of one tenant that run at once.
        request_timeout: Seconds for a whole request that is no upload.
        upload_timeout: Seconds for a whole upload, its body included.
        metrics_token: Bearer token that opens `GET /metrics`, at least 16 characters; None leaves
            the endpoint away. No tenant's key opens it, as it shows every tenant.
    """

    max_upload_bytes: _Positive = 200 * 1024 * 1024
    max_document_bytes: _Positive = 16 * 1024 * 1024
    max_query_bytes: _Positive = 256 * 1024
    max_files: _Positive = 100
    max_uploads: _Positive = 32
    max_uploads_per_tenant: _Positive = 4
    request_timeout: _Seconds = 60.0
    upload_timeout: _Seconds = 600.0
    metrics_token: Annotated[SecretStr, Field(min_length=16)] | None = None
