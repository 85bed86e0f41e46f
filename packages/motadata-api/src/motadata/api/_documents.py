"""`/v1/documents`: take documents in, list them, open one, remove one."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import ValidationError

from motadata.api._problems import Problem, ProblemError, invalid_request
from motadata.api._query import BEARER
from motadata.api._responses import JSON, PROBLEMS, json_response
from motadata.api._uploads import (
    NDJSON,
    OnProgress,
    UploadSlots,
    UploadStream,
    ingest_files,
    received_files,
)
from motadata.api.schemas import (
    DocumentRequest,
    DocumentResponse,
    DocumentsResponse,
    DocumentSummary,
    ErrorBody,
    FileBody,
    UploadResponse,
)
from motadata.api.settings import ApiSettings
from motadata.core.errors import DocumentNotFoundError, InvalidIdentifierError
from motadata.core.observability import current_trace_id
from motadata.core.platform import Platform
from motadata.core.tenancy import Identifier, TenantId, resolve_tenant


_PARSE_IN_THREAD: Final = 64 * 1024
_NOT_FOUND: Final[dict[int | str, dict[str, object]]] = {
    404: {"model": ErrorBody, "description": "The tenant has no such document."}
}
_MULTI_STATUS: Final = 207

_UPLOAD_BODY: Final = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "files": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                        }
                    },
                }
            },
            JSON: {"schema": DocumentRequest.model_json_schema()},
        },
    }
}


def upload_routes(platform: Platform, settings: ApiSettings) -> APIRouter:
    """Return the endpoint that takes documents in."""
    router = APIRouter(prefix="/v1", tags=["documents"], dependencies=[BEARER])
    slots = UploadSlots(settings)

    @router.post(
        "/documents",
        response_model=UploadResponse,
        openapi_extra=_UPLOAD_BODY,
        responses={
            **PROBLEMS,
            207: {"model": UploadResponse, "description": "Some of several files failed."},
            415: {"model": ErrorBody, "description": "Nothing reads files of this kind."},
        },
        summary="Take in files, or a document as JSON",
        description=(
            "The only file of an upload that fails gives the error's own status; of several, each "
            f"has its outcome. With `Accept: {NDJSON}` the steps are told as they happen."
        ),
    )
    async def take_in(request: Request) -> Response:
        tenant = resolve_tenant(None)
        kind = (request.headers.get("content-type") or "").split(";")[0].strip().lower()
        if kind == JSON:
            with slots.take(tenant):
                return await _take_text(platform, request, tenant)
        if kind == "multipart/form-data":
            return await _take_files(platform, request, tenant, settings, slots)
        raise _unknown_body(kind)

    return router


def document_routes(platform: Platform) -> APIRouter:
    """Return the endpoints that list, open and remove documents."""
    router = APIRouter(prefix="/v1", tags=["documents"], dependencies=[BEARER])

    @router.get(
        "/documents",
        response_model=DocumentsResponse,
        responses=PROBLEMS,
        summary="List documents by ascending id",
    )
    async def list_documents(
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
        after: Annotated[str | None, Query(pattern=r"\A[A-Za-z0-9_-]{1,64}\z")] = None,
    ) -> Response:
        # One more than asked for tells whether there is a page behind this one.
        found = await platform.knowledge_base.list_documents(
            limit=limit + 1, after=after, tenant_id=resolve_tenant(None)
        )
        page = [DocumentSummary.of(info) for info in found[:limit]]
        following = page[-1].document_id if len(found) > limit else None
        return json_response(
            DocumentsResponse(documents=page, next=following, trace_id=current_trace_id())
        )

    @router.get(
        "/documents/{document_id}",
        response_model=DocumentResponse,
        responses={**PROBLEMS, **_NOT_FOUND},
        summary="Return a version of a document with its text",
    )
    async def get_document(
        document_id: str, version: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None
    ) -> Response:
        document = await platform.knowledge_base.get_document(
            _checked(document_id), version=version, tenant_id=resolve_tenant(None)
        )
        body = DocumentResponse.of(
            document, document_id=document_id, version=version, trace_id=current_trace_id()
        )
        return json_response(body)

    @router.delete(
        "/documents/{document_id}",
        status_code=204,
        responses={**PROBLEMS, **_NOT_FOUND},
        summary="Remove a document with all its versions",
    )
    async def delete_document(document_id: str) -> Response:
        await platform.knowledge_base.delete_document(
            _checked(document_id), tenant_id=resolve_tenant(None)
        )
        return Response(status_code=204)

    return router


async def _take_text(platform: Platform, request: Request, tenant: TenantId) -> Response:
    body = await request.body()
    try:
        if len(body) < _PARSE_IN_THREAD:
            taken = DocumentRequest.model_validate_json(body)
        else:
            taken = await asyncio.to_thread(DocumentRequest.model_validate_json, body)
    except ValidationError as error:
        problem = invalid_request(error.errors(include_input=False, include_url=False))
        raise ProblemError(problem) from None
    stored = await platform.knowledge_base.ingest_document(taken.to_document(), tenant_id=tenant)
    return json_response(
        UploadResponse(files=[FileBody.stored(stored)], trace_id=current_trace_id())
    )


async def _take_files(
    platform: Platform,
    request: Request,
    tenant: TenantId,
    settings: ApiSettings,
    slots: UploadSlots,
) -> Response:
    ingestion = platform.ingestion
    async with AsyncExitStack() as stack:
        stack.enter_context(slots.take(tenant))
        files = await stack.enter_async_context(received_files(request, settings))

        async def work(on_progress: OnProgress | None) -> UploadResponse:
            return await ingest_files(ingestion, files, tenant_id=tenant, on_progress=on_progress)

        if NDJSON in request.headers.get("accept", ""):
            return UploadStream(work, stack.pop_all())
        done = await work(None)
        return json_response(done, status=_MULTI_STATUS if done.failures else 200)


def _checked(document_id: str) -> str:
    """Return an id that may be a document's.

    Raises:
        DocumentNotFoundError: No document can have it.
    """
    try:
        return Identifier(document_id)
    except InvalidIdentifierError as error:
        message = f"There is no document {document_id[:80]!r}."
        raise DocumentNotFoundError(message, remedy="List the documents for their ids.") from error


def _unknown_body(kind: str) -> ProblemError:
    return ProblemError(
        Problem(
            status=415,
            code="unsupported_body",
            message=f"A body of type {kind[:80]!r} cannot be taken in.",
            remedy="Send files as multipart/form-data, or a document as application/json.",
        )
    )
