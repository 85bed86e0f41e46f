"""`GET /metrics`: what Prometheus scrapes; of all tenants, so it has a key of its own."""

from __future__ import annotations

import asyncio
import hmac
import time
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import SecretStr

from motadata.api._middleware import bearer_token
from motadata.api.key_format import authentication_failed
from motadata.core.observability import MetricsPage, render_metrics


_KEEP_SECONDS: Final = 1.0


class _Page:
    """Renders at most once a second, however many ask."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._kept: MetricsPage | None = None
        self._rendered = 0.0

    async def __call__(self) -> MetricsPage:
        async with self._lock:
            if self._kept is None or time.monotonic() - self._rendered > _KEEP_SECONDS:
                self._kept = await render_metrics()
                self._rendered = time.monotonic()
            return self._kept


def metrics_routes(token: SecretStr) -> APIRouter:
    """Return the endpoint of the process's metrics, open to whoever has `token`."""
    router = APIRouter(tags=["metrics"])
    page = _Page()
    expected = token.get_secret_value().encode()

    @router.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}, "description": "All metrics."}},
        summary="Show the metrics of the process as Prometheus reads them",
    )
    async def metrics(request: Request) -> Response:
        if not hmac.compare_digest(bearer_token(request.scope).encode("latin-1"), expected):
            raise authentication_failed()
        shown = await page()
        return Response(shown.body, media_type=shown.content_type)

    return router
