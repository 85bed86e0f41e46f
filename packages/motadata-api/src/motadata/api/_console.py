"""`GET /`: the console page, from files of this package; it loads nothing from elsewhere."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from fastapi import APIRouter
from fastapi.responses import Response


# Documents are untrusted: no script but the page's own runs, and no text becomes markup.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS: Final = {
    "content-security-policy": _POLICY,
    "cache-control": "no-cache",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def console_routes() -> APIRouter:
    """Return the page and what it loads."""
    router = APIRouter(include_in_schema=False)
    for entry in sorted(files("motadata.api").joinpath("console").iterdir(), key=lambda e: e.name):
        ending = "." + entry.name.rpartition(".")[2]
        if ending in _TYPES:
            path = "/" if entry.name == "index.html" else f"/console/{entry.name}"
            _serve(router, path, entry.read_bytes(), _TYPES[ending])
    return router


def _serve(router: APIRouter, path: str, content: bytes, media_type: str) -> None:
    async def page() -> Response:
        return Response(content, headers={**_HEADERS, "content-type": media_type})

    router.add_api_route(path, page, methods=["GET", "HEAD"])
