"""The door to feedback: record it, add it up, export it, erase it; tenant by tenant."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, cast, get_args
from uuid import UUID

from motadata.core.errors import ValidationError
from motadata.core.models import FeedbackInsights, FeedbackReceipt, Signal
from motadata.core.observability import counter
from motadata.core.protocols import Database, Row
from motadata.core.tenancy import TenantId, resolve_tenant
from motadata.gateway.feedback import _statements as sql
from motadata.gateway.feedback._checks import (
    check_count,
    checked_call_id,
    checked_moment,
    checked_user,
)
from motadata.gateway.feedback._examples import Example, ExampleForm
from motadata.gateway.feedback._insights import insights_of
from motadata.gateway.feedback._signals import SignalRow, id_of, row_of, signal_of
from motadata.gateway.feedback._writing import LinesFile


_LINK_FOR: Final = timedelta(days=30)
_EVER: Final = datetime.min.replace(tzinfo=UTC)
_NEVER: Final = datetime.max.replace(tzinfo=UTC)
_FIRST_ID: Final = UUID(int=0)
_PAGE: Final = 200
_MOST_GROUPS: Final = 1000
_MOST_CORRECTIONS: Final = 100
_CHUNK: Final = 256 * 1024
_FORMS: Final = frozenset(get_args(ExampleForm))

_signals = counter(
    "motadata.gateway.feedback", unit="{signal}", description="Signals that people gave."
)


class Feedback:
    """Keeps what people say about answers, and makes something of it.

    A signal names its call by the answer's `call_id`. It may come before the usage log has written
    that call down; it is linked to it then, and keeps the call's prompt and model also when the log
    deletes the call later.

    Args:
        database: `motadata.gateway.migrations` has run there.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(
        self,
        call_id: str,
        signal: Signal,
        *,
        user: str = "",
        feedback_id: UUID | None = None,
        tenant_id: str | None = None,
    ) -> FeedbackReceipt:
        """Keep what somebody says about a call; when it returns, it is stored.

        Calling again with the same changes nothing, so that a failed call can be repeated. A second
        signal of a kind by the same user about the same call replaces the first.

        Args:
            call_id: The `call_id` of the answer.
            signal: A `Rating`, a `Vote`, a `Correction` or a `Flag`.
            user: Who says it: an opaque id, never a name or an address. All who are not named count
                as one.
            feedback_id: What makes a repeated call the same feedback; None means that call, user
                and kind do.
            tenant_id: None means the tenant of the scope.

        Raises:
            TenantRequiredError: No tenant is given and none is in scope.
            ValidationError: A value is malformed or too long, or `feedback_id` belongs to other
                feedback.
            DatabaseError: It could not be stored; after a retryable error, repeat.
        """
        tenant = resolve_tenant(tenant_id)
        call, speaker, row = checked_call_id(call_id), checked_user(user), row_of(signal)
        named = feedback_id or id_of(tenant, call, speaker, row.kind)
        values = (row.approves, row.stars, row.reason, row.body, row.digest)
        async with self._database.transaction(tenant) as transaction:
            stored = await transaction.fetch_one(
                sql.RECORD, tenant, named, call, row.kind, speaker, *values
            )
            if stored is None:
                found = await transaction.fetch_one(sql.FIND, tenant, named)
                _check_same(found, call, row, speaker)
        if stored is None:
            return FeedbackReceipt(named, "unchanged")
        _signals.add(1, {"kind": row.kind})
        return FeedbackReceipt(named, "created" if stored["created"] else "updated")

    async def of_call(
        self, call_id: str, *, tenant_id: str | None = None
    ) -> tuple[tuple[str, Signal], ...]:
        """Return who said what about a call, oldest first; at most 1,000.

        Raises:
            ValidationError: It is no id of a call.
            DatabaseError: It could not be read.
        """
        tenant = resolve_tenant(tenant_id)
        rows = await self._database.execute_query(
            sql.OF_CALL, tenant, checked_call_id(call_id), tenant_id=tenant
        )
        return tuple((str(row["user_id"]), signal_of(row)) for row in rows)

    async def insights(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        most_corrections: int = 5,
        tenant_id: str | None = None,
    ) -> FeedbackInsights:
        """Return how each version of a prompt fares with each model.

        Args:
            since: Feedback first given from then on; with a time zone. None means ever.
            until: Feedback first given before then; with a time zone. None means now.
            most_corrections: Common corrections of each, 0 to 100.
            tenant_id: None means the tenant of the scope.

        Returns:
            At most 1,000 pairs of prompt and model, those with the most judgements first.

        Raises:
            ValidationError: A moment has no time zone, or the number is out of range.
            DatabaseError: They could not be read.
        """
        tenant = resolve_tenant(tenant_id)
        check_count("most_corrections", most_corrections, low=0, high=_MOST_CORRECTIONS)
        period = (
            checked_moment("since", since, otherwise=_EVER),
            checked_moment("until", until, otherwise=_NEVER),
        )
        await self._link(tenant)
        async with self._database.transaction(tenant, isolation="repeatable_read") as transaction:
            judged = await transaction.fetch(sql.JUDGEMENTS, tenant, *period, _MOST_GROUPS)
            stars = await transaction.fetch(sql.STARS, tenant, *period)
            flags = await transaction.fetch(sql.FLAGS, tenant, *period)
            corrections = await transaction.fetch(
                sql.CORRECTIONS, tenant, *period, most_corrections
            )
            unlinked = await transaction.fetch_value(sql.UNLINKED, tenant, *period)
        insights = insights_of(judged, stars=stars, flags=flags, corrections=corrections)
        return FeedbackInsights(insights, cast("int", unlinked))

    async def examples(
        self,
        *,
        prompt: str | None = None,
        agreement: int = 1,
        tenant_id: str | None = None,
    ) -> AsyncGenerator[Example]:
        """Yield calls whose right answer people gave or approved of, in the order of the calls.

        Only calls whose texts the usage log keeps have one, which it does when the platform asks
        for it. Read it within `contextlib.aclosing`.

        Args:
            prompt: Only of this name and version; None means of all.
            agreement: How many users must have given the same correction, or approved while nobody
                disapproved. Above 1, nobody teaches a model alone.
            tenant_id: None means the tenant of the scope.

        Raises:
            ValidationError: `agreement` is below 1.
            DatabaseError: They could not be read.
        """
        tenant = resolve_tenant(tenant_id)
        check_count("agreement", agreement, low=1, high=1_000_000)
        after = _FIRST_ID
        while True:
            rows = await self._database.execute_query(
                sql.JUDGED_CALLS, tenant, after, _PAGE, tenant_id=tenant
            )
            calls = [UUID(str(row["call_id"])) for row in rows]
            found = await self._database.execute_query(
                sql.EXAMPLES, tenant, calls, agreement, prompt, tenant_id=tenant
            )
            for row in found:
                yield Example.of(row)
            if len(calls) < _PAGE:
                return
            after = calls[-1]

    async def export(
        self,
        path: Path,
        *,
        form: ExampleForm = "evaluation",
        prompt: str | None = None,
        agreement: int = 1,
        tenant_id: str | None = None,
    ) -> int:
        """Write examples to a file of JSON lines, and return how many there are.

        The file appears when it is complete, and is readable by its owner only.

        Args:
            path: The new file; one that is there is replaced.
            form: What a line looks like.
            prompt: As for `examples`.
            agreement: As for `examples`.
            tenant_id: None means the tenant of the scope.

        Raises:
            ValidationError: `agreement` or `form` is not possible.
            ConfigurationError: The file cannot be written.
            DatabaseError: The examples could not be read.
        """
        tenant = resolve_tenant(tenant_id)
        if form not in _FORMS:
            message = f"{str(form)[:40]!r} is no form of examples."
            raise ValidationError(message, remedy="Use 'evaluation' or 'few_shot'.")
        written, lines = 0, bytearray()
        examples = self.examples(prompt=prompt, agreement=agreement, tenant_id=tenant)
        with LinesFile(Path(path)) as file:
            async with aclosing(examples):
                async for example in examples:
                    lines += example.line(form)
                    written += 1
                    if len(lines) > _CHUNK:
                        await asyncio.to_thread(file.write, bytes(lines))
                        lines.clear()
            await asyncio.to_thread(file.write, bytes(lines))
            await asyncio.to_thread(file.keep)
        return written

    async def erase_user(self, user: str, *, tenant_id: str | None = None) -> int:
        """Delete everything that a user said; return how many signals there were.

        Raises:
            ValidationError: The user is malformed.
            DatabaseError: It could not be deleted; after a retryable error, repeat.
        """
        tenant = resolve_tenant(tenant_id)
        async with self._database.transaction(tenant) as transaction:
            return await transaction.execute(sql.ERASE_USER, tenant, checked_user(user))

    async def delete_before(self, moment: datetime, *, tenant_id: str | None = None) -> int:
        """Delete feedback that was first given before a moment; return how much there was.

        Raises:
            ValidationError: The moment has no time zone.
            DatabaseError: It could not be deleted; after a retryable error, repeat.
        """
        tenant = resolve_tenant(tenant_id)
        before = checked_moment("moment", moment, otherwise=_EVER)
        async with self._database.transaction(tenant) as transaction:
            return await transaction.execute(sql.DELETE_BEFORE, tenant, before)

    async def _link(self, tenant: TenantId) -> None:
        """Copy prompt and model to the signals whose call has been written down meanwhile.

        Whatever is still alone after a month named a call that never was.
        """
        async with self._database.transaction(tenant) as transaction:
            await transaction.execute(sql.LINK, tenant, datetime.now(UTC) - _LINK_FOR)


def _check_same(found: Row | None, call: UUID, row: SignalRow, user: str) -> None:
    """Refuse an id that names other feedback; a repetition is welcome."""
    if found is None:  # erased in between
        return
    if (found["call_id"], found["kind"], found["user_id"]) != (call, row.kind, user):
        message = "The feedback_id belongs to feedback of another call, user or kind."
        raise ValidationError(message, remedy="Make a fresh one, or leave it out.")
