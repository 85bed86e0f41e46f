"""The reports on usage keep the contract of a reader, over the real tables."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import pytest

from motadata.core.database import PostgresDatabase
from motadata.core.models import Usage
from motadata.core.protocols import UsageReader
from motadata.core.testing.usage_reader import (
    Silenced,
    UsageReaderConformance,
    UsedCall,
    WriteCall,
)
from motadata.gateway import Attribution, Call, CallNotes, ChatRequest
from motadata.gateway.usage import UsageReports
from motadata.gateway.usage._insertion import insert
from motadata.gateway.usage._record import Course, line_of
from motadata.gateway.usage._reports import _id_at
from motadata.gateway.usage._spool import Line


class TestUsageReports(UsageReaderConformance):
    @pytest.fixture
    def usage_reader(self, database: PostgresDatabase) -> UsageReader:
        return UsageReports(database)

    @pytest.fixture
    def write_call(self, database: PostgresDatabase) -> WriteCall:
        async def write(call: UsedCall, tenant_id: str) -> None:
            line = Line(tenant_id, written(call, tenant_id))
            assert await insert(database, [line], timeout=10.0) == []

        return write

    @pytest.fixture
    def silenced(self, database: PostgresDatabase) -> Silenced:
        @asynccontextmanager
        async def silence() -> AsyncIterator[None]:
            async with database.transaction("nobody") as holder:
                await holder.execute("lock table motadata.gateway_call")
                yield

        return silence


def written(call: UsedCall, tenant: str) -> bytes:
    """Return the line that the usage log writes of such a call."""
    notes = CallNotes(model=call.model, provider=call.provider, attempts=1)
    notes.call_id = str(UUID(int=_id_at(call.began_at).int + uuid4().int % 2**62))
    notes.spent = Usage(call.input_tokens, call.output_tokens, call.cost_usd)
    notes.saved_usd, notes.price_version = call.saved_usd, call.price_version
    by = Attribution(user=call.user, feature=call.feature, prompt=call.prompt)
    request = ChatRequest(call.model, (), None, None, ())
    made = Call(request, NotImplemented, 1.0, tenant, None, "use", attribution=by, notes=notes)
    course = Course(call.began_at.timestamp(), 0.0, seconds=0.25, error=call.error)
    operation = "embedding" if call.operation == "embedding" else "chat"
    return line_of(made, course, operation=operation, trace_id="")
