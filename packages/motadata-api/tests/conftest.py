"""What the tests of motadata-api share: a platform of fakes behind a real HTTP server."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import pytest
import uvicorn

from motadata.api import ApiSettings, create_app
from motadata.core.errors import (
    AuthenticationError,
    EmptyFileError,
    IngestionError,
    UnsupportedFormatError,
)
from motadata.core.models import Answer, Document, Health, HealthStatus, TaskResult
from motadata.core.platform import ComponentSpec, Platform, create_platform
from motadata.core.protocols import FileOutcome, KnowledgeBase, UploadProgress, UploadReport
from motadata.core.testing.fake_knowledge_base import FakeKnowledgeBase


TENANTS: Final = {"acme-key": "acme", "globex-key": "globex"}


class FakeIngestion:
    """Reads text files into a knowledge base; refuses what the real one refuses."""

    def __init__(self, knowledge_base: KnowledgeBase) -> None:
        self._knowledge_base = knowledge_base
        self.gate: asyncio.Event | None = None
        self.failure: Exception | None = None
        self.health_status: HealthStatus = "ok"
        self.folders: list[Path] = []
        self.entered = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def upload(
        self,
        content: object,
        *,
        source: str | None = None,
        on_progress: Callable[[UploadProgress], None] | None = None,
        tenant_id: str | None = None,
    ) -> UploadReport:
        assert isinstance(content, Path)
        if await asyncio.to_thread(content.is_dir):
            return await self._upload_folder(content, on_progress, tenant_id)
        self.folders.append(content.parent)
        name = source or content.name
        report = on_progress or (lambda _step: None)
        report(UploadProgress(name, "loading", 1, 1))
        await self._pass_gate()
        if self.failure is not None:
            raise self.failure
        data = await asyncio.to_thread(content.read_bytes)
        if not data:
            message = f"{name!r} is empty."
            raise EmptyFileError(message, remedy="Send a file with content.")
        if b"\0" in data:
            message = f"{name!r} is of no known kind."
            raise UnsupportedFormatError(message, remedy="Send text.")
        report(UploadProgress(name, "storing", 1, 1))
        stored = await self._knowledge_base.ingest_document(
            Document(text=data.decode(), source=name, title=name[:100]), tenant_id=tenant_id
        )
        report(UploadProgress(name, "done", 1, 1))
        return UploadReport((FileOutcome(name, document=stored),))

    async def health(self) -> Health:
        return Health(self.health_status)

    async def _upload_folder(
        self,
        folder: Path,
        on_progress: Callable[[UploadProgress], None] | None,
        tenant_id: str | None,
    ) -> UploadReport:
        outcomes: list[FileOutcome] = []
        for path in await asyncio.to_thread(lambda: sorted(folder.iterdir())):
            name = f"{folder.name}/{path.name}"
            try:
                report = await self.upload(
                    path, source=name, on_progress=on_progress, tenant_id=tenant_id
                )
                outcomes += report.files
            except IngestionError as error:
                outcomes.append(FileOutcome(name, error=error))
        return UploadReport(tuple(outcomes))

    async def _pass_gate(self) -> None:
        if self.gate is None:
            return
        self.entered.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


class FailingKnowledgeBase(FakeKnowledgeBase):
    """The fake that can be told to fail."""

    failure: Exception | None = None

    async def query(
        self,
        query: str,
        *,
        limit: int = 8,
        document_ids: Sequence[str] = (),
        model: str | None = None,
        tenant_id: str | None = None,
    ) -> Answer:
        if self.failure is not None:
            raise self.failure
        return await super().query(
            query, limit=limit, document_ids=document_ids, model=model, tenant_id=tenant_id
        )


class StubAgent:
    """Answers everything with the same words and remembers what it was asked."""

    def __init__(self) -> None:
        self.tasks: list[tuple[str | None, Mapping[str, object]]] = []

    async def execute_task(
        self,
        task_type: str,
        parameters: Mapping[str, object],
        *,
        timeout: float | None = None,
        tenant_id: str | None = None,
    ) -> TaskResult:
        self.tasks.append((tenant_id, parameters))
        return TaskResult(task_id="1", task_type=task_type, output="The agent's words.")

    async def health(self) -> Health:
        return Health("ok")


class Idle:
    """Fills a role of core that these tests do not use."""

    async def health(self) -> Health:
        return Health("ok", detail="secret detail")


@dataclass
class Service:
    """A served platform of fakes."""

    client: httpx.AsyncClient
    knowledge_base: FailingKnowledgeBase
    ingestion: FakeIngestion
    address: str

    def headers(self, key: str = "acme-key") -> dict[str, str]:
        return {"authorization": f"Bearer {key}"}


async def by_table(token: str) -> str:
    """Authenticate by a table instead of a database."""
    try:
        return TENANTS[token]
    except KeyError:
        raise AuthenticationError("The API key is missing or not valid.") from None


def role(name: str, component: object) -> ComponentSpec:
    """Return a spec whose component is an object that is there already."""

    @asynccontextmanager
    async def opened(_platform: Platform) -> AsyncIterator[object]:
        yield component

    return ComponentSpec(name=name, open=opened)


class AnnouncingServer(uvicorn.Server):
    """Uvicorn that says when it is ready."""

    def __init__(self, config: uvicorn.Config, ready: asyncio.Event) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready.set()


@asynccontextmanager
async def served(app: object) -> AsyncIterator[str]:
    """Serve an ASGI application on a free port; the value is its address."""
    config = uvicorn.Config(app, log_config=None, lifespan="on", timeout_graceful_shutdown=2)
    ready = asyncio.Event()
    server = AnnouncingServer(config, ready)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    # Not serve(): it would take the signal handlers of the test run.
    task = asyncio.create_task(server._serve(sockets=[listener]))
    try:
        await asyncio.wait_for(ready.wait(), 10)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task


ServeFakes = Callable[..., AbstractAsyncContextManager[Service]]


@pytest.fixture
def serve_fakes() -> ServeFakes:
    """Serve a platform of fakes: `async with serve_fakes(max_query_bytes=10) as service`."""

    @asynccontextmanager
    async def serve(
        *, without: tuple[str, ...] = (), extra: dict[str, object] | None = None, **limits: float
    ) -> AsyncIterator[Service]:
        knowledge_base = FailingKnowledgeBase()
        ingestion = FakeIngestion(knowledge_base)
        components = {
            "database": Idle(),
            "cache": Idle(),
            "knowledge_base": knowledge_base,
            "ingestion": ingestion,
            **(extra or {}),
        }
        specs = [role(name, item) for name, item in components.items() if name not in without]
        platform = create_platform({}, components=specs)
        settings = ApiSettings.model_validate(limits)
        async with (
            served(create_app(platform, settings=settings, authenticate=by_table)) as address,
            httpx.AsyncClient(base_url=address, timeout=20) as client,
        ):
            yield Service(client, knowledge_base, ingestion, address)

    return serve


@pytest.fixture
async def service(serve_fakes: ServeFakes) -> AsyncIterator[Service]:
    """A served platform of fakes with the usual limits."""
    async with serve_fakes() as running:
        yield running


@pytest.fixture
def agent() -> StubAgent:
    """An agent that answers everything with the same words."""
    return StubAgent()
