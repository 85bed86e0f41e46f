"""`GET /healthz`: whether the service can serve; for load balancers, so no key is needed."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from fastapi import APIRouter
from fastapi.responses import Response

from motadata.api._responses import json_response
from motadata.api.schemas import HealthResponse
from motadata.core.platform import Platform


_KEEP_SECONDS: Final = 1.0


class _HealthCheck:
    """Asks the platform at most once a second, however many ask: nobody needs a key for this."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._lock = asyncio.Lock()
        self._kept: HealthResponse | None = None
        self._asked = 0.0

    async def __call__(self) -> HealthResponse:
        async with self._lock:
            if self._kept is None or time.monotonic() - self._asked > _KEEP_SECONDS:
                health = await self._platform.health()
                states = {name: state.status for name, state in health.components.items()}
                self._kept = HealthResponse(status=health.status, components=states)
                self._asked = time.monotonic()
            return self._kept


def health_routes(platform: Platform) -> APIRouter:
    """Return the endpoint of the platform's health."""
    router = APIRouter(tags=["health"])
    check = _HealthCheck(platform)

    @router.get(
        "/healthz",
        response_model=HealthResponse,
        responses={503: {"model": HealthResponse, "description": "It does not serve."}},
        summary="Say whether the service can serve",
    )
    async def healthz() -> Response:
        body = await check()
        return json_response(body, status=503 if body.status == "down" else 200)

    return router
