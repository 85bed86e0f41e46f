"""`motadata serve`: the HTTP API and the page, until interrupted; then everything ends in order."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import uvicorn

from motadata.api.app import create_app
from motadata.api.cli._keys import keys_of
from motadata.api.cli._output import print_json, results_console
from motadata.api.cli._run import EXIT_OK, open_platform
from motadata.core.errors import ConfigurationError, SDKError
from motadata.core.observability import get_logger
from motadata.core.platform import Platform
from motadata.core.tenancy import TenantId


_MAX_CONNECTIONS: Final = 1000
_STOP_SECONDS: Final = 10
_WILDCARDS: Final = ("0.0.0.0", "::")  # noqa: S104 - recognised, not bound

_log = get_logger("api")


async def serve_platform(host: str, port: int, *, tenant: str | None, as_json: bool) -> int:
    """Serve until interrupted.

    Args:
        host: Address to listen at.
        port: Port to listen at; 0 takes a free one.
        tenant: For whom to make a key that is printed with the address; None makes none.
        as_json: Print `{"url", "address", "key", "tenant_id"}` instead of a sentence.

    Raises:
        ConfigurationError: The address cannot be listened at.
        SDKError: A component did not open.
    """
    tenant_id = TenantId(tenant) if tenant is not None else None
    with contextlib.closing(_listen(host, port)) as listener:
        async with open_platform(quiet=as_json) as platform, _key(platform, tenant_id) as key:
            url = _url(host, listener)

            def announce() -> None:
                _announce(url, key=key, tenant_id=tenant_id, as_json=as_json)

            server = _Server(create_app(platform), announce)
            with _stopped_by_signals(server):
                await server.serve(sockets=[listener])
    return EXIT_OK


class _Server(uvicorn.Server):
    """Uvicorn that says when it is ready and leaves the signals to us.

    Its own handling raises a signal again at the end, which would end the process before the
    platform is closed.
    """

    def __init__(self, app: object, announce: Callable[[], None]) -> None:
        config = uvicorn.Config(
            app,  # type: ignore[arg-type]  # FastAPI is an ASGI application
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=_MAX_CONNECTIONS,
            timeout_graceful_shutdown=_STOP_SECONDS,
        )
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen and say so."""
        await super().startup(sockets)
        if self.started:
            self._announce()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


@contextmanager
def _stopped_by_signals(server: uvicorn.Server) -> Iterator[None]:
    """Let the first signal stop the server in order and the second at once."""

    def stop(*_: object) -> None:
        server.force_exit = server.should_exit
        server.should_exit = True

    loop = asyncio.get_running_loop()
    before = {kind: signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)}
    try:
        for kind in before:
            loop.add_signal_handler(kind, stop)
    except NotImplementedError:  # Windows
        for kind in before:
            signal.signal(kind, stop)
    try:
        yield
    finally:
        for kind, handler in before.items():
            with contextlib.suppress(NotImplementedError):
                loop.remove_signal_handler(kind)
            signal.signal(kind, handler)


@asynccontextmanager
async def _key(platform: Platform, tenant_id: TenantId | None) -> AsyncIterator[str | None]:
    """Make a key that opens for as long as the block runs."""
    if tenant_id is None:
        yield None
        return
    keys = keys_of(platform)
    created = await keys.create("motadata serve --with-key", tenant_id=tenant_id)
    try:
        yield created.key
    finally:
        try:
            await keys.revoke(created.info.key_id, tenant_id=tenant_id)
        except SDKError as error:
            _log.warning("api_key_not_revoked", key_id=created.info.key_id, code=error.code)


def _listen(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        message = f"Cannot listen at {host}:{port}: {error.strerror or error}."
        raise ConfigurationError(
            message, remedy="Choose another --host or --port; --port 0 takes a free one."
        ) from error


def _url(host: str, listener: socket.socket) -> str:
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    shown = f"[{name}]" if ":" in name else name
    return f"http://{shown}:{listener.getsockname()[1]}/"


def _announce(url: str, *, key: str | None, tenant_id: str | None, as_json: bool) -> None:
    # The key stands behind the '#': browsers keep that part to themselves.
    address = f"{url}#key={key}" if key else url
    if as_json:
        print_json({"url": url, "address": address, "key": key, "tenant_id": tenant_id})
        return
    console = results_console()
    console.print(f"Serving at {address}", soft_wrap=True)
    if not key:
        console.print("The page asks for an API key: motadata keys create --tenant <tenant>")
    console.print("Press Ctrl-C to stop.")
