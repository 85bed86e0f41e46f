"""`POST /v1/query`: a question in, an answer with citations out."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Depends
from fastapi.responses import Response
from fastapi.security import HTTPBearer

from motadata.api._responses import PROBLEMS, json_response
from motadata.api.schemas import ErrorBody, QueryRequest, QueryResponse
from motadata.api.unified import UnifiedQuery
from motadata.core.observability import current_trace_id
from motadata.core.platform import Platform
from motadata.core.tenancy import resolve_tenant


# Only describes the key in OpenAPI: the middleware has checked it by the time an endpoint runs.
BEARER: Final = Depends(
    HTTPBearer(auto_error=False, description="A key of `motadata keys create`.")
)


def query_routes(platform: Platform) -> APIRouter:
    """Return the endpoint that answers questions."""
    router = APIRouter(prefix="/v1", tags=["query"], dependencies=[BEARER])

    @router.post(
        "/query",
        response_model=QueryResponse,
        responses={
            **PROBLEMS,
            501: {"model": ErrorBody, "description": "The mode needs a component that is absent."},
        },
        summary="Answer a question from the tenant's documents",
    )
    async def query(request: QueryRequest) -> Response:
        answer = await UnifiedQuery.of(platform).ask(
            request.query,
            mode=request.mode,
            limit=request.limit,
            document_ids=request.document_ids,
            tenant_id=resolve_tenant(None),
        )
        return json_response(
            QueryResponse.of(
                request.query,
                mode=answer.mode,
                answer=answer.answer,
                task=answer.task,
                trace_id=current_trace_id(),
            )
        )

    return router
