"""A table under row-level security, and what each tenant may find in it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from typing import Final, Self

from motadata.core.errors import QueryError, SDKError
from motadata.core.protocols import Database
from motadata.core.testing.isolation._operations import TENANTS, Operation, choose
from motadata.core.testing.isolation._site import (
    UNKNOWN,
    Cell,
    Leak,
    Serials,
    Unknown,
    attempt,
    in_the_end,
    intrude,
    within,
)


IDS: Final = ("a", "b", "'", "a:b", "%")
TABLE: Final = "conformance_items"
_REFUSED: Final = "42501"
"""PostgreSQL's code for what a policy refuses."""

_PUT: Final = (
    f"insert into {TABLE} (tenant_id, id, body, embedding)"  # noqa: S608 - a constant
    " values ($1, $2, $3, '[1,0,0]') on conflict (tenant_id, id) do update set body = excluded.body"
)
_READ: Final = f"select tenant_id, id, body from {TABLE}"  # noqa: S608 - a constant


class TableSite:
    """Statements that name no tenant, or the wrong one, on the table of the conformance kit.

    The database must have been migrated with `CONFORMANCE_MIGRATIONS`.

    Args:
        database: The database, opened as the role that the SDK runs as.
        name: How reports call it.
        forgetful: Whether calls may fail, as when its server fails meanwhile.
        weight: How often it is acted on.
    """

    def __init__(
        self, database: Database, *, name: str = "table", forgetful: bool = False, weight: int = 1
    ) -> None:
        self.name = name
        self.weight = weight
        self.unknown = 0
        self._database = database
        self._forgetful = forgetful
        self._serials = Serials()
        self._shelves: defaultdict[str, defaultdict[str, Cell]] = defaultdict(
            lambda: defaultdict(Cell)
        )
        self._verbs = (
            self._put, self._put, self._put, self._read, self._read, self._read, self._read_one,
            self._read_one, self._search, self._change_all, self._forge, self._give_away,
            self._abandon, self._wipe, self._intrude,
        )  # fmt: skip

    async def __aenter__(self) -> Self:
        """Do nothing: whoever made the database has entered it."""
        return self

    async def __aexit__(self, *details: object) -> None:
        """Do nothing."""

    async def act(self, tenant: str, operation: Operation) -> None:
        """Do one operation and check its answer.

        Raises:
            Leak: It is not the tenant's own.
        """
        await choose(self._verbs, operation.verb)(tenant, operation)

    async def settle(self) -> None:
        """Read all rows of every tenant.

        Raises:
            Leak: One sees another's, or lost one that nobody else may take.
        """
        for tenant in list(self._shelves):
            await self._read(tenant, Operation(0, 0, 0))

    async def reset(self) -> None:
        """Delete all rows of every tenant."""
        for tenant in {*TENANTS, *self._shelves}:
            sql = f"delete from {TABLE}"  # noqa: S608 - a constant
            await in_the_end(partial(self._database.execute_query, sql, tenant_id=tenant))
        self._shelves.clear()

    async def _put(self, tenant: str, operation: Operation) -> None:
        key, serial = choose(IDS, operation.key), self._serials.next(tenant)
        answer = await self._run(tenant, operation, _PUT, tenant, key, f"{tenant}~{serial}")
        self._shelves[tenant][key].wrote(serial, answer)

    async def _read(self, tenant: str, operation: Operation) -> None:
        rows = await self._run(tenant, operation, _READ)
        if not isinstance(rows, Unknown):
            found = {str(row["id"]): row for row in rows}
            if len(found) != len(rows):
                self._leaks(tenant, "has a row twice")
            for key in {*found, *IDS}:
                self._check(tenant, key, found.get(key))

    async def _read_one(self, tenant: str, operation: Operation) -> None:
        key = choose(IDS, operation.key)
        rows = await self._run(tenant, operation, f"{_READ} where id = $1", key)
        if not isinstance(rows, Unknown):
            if len(rows) > 1:
                self._leaks(tenant, f"found {len(rows)} rows of one id")
            self._check(tenant, key, rows[0] if rows else None)

    async def _search(self, tenant: str, operation: Operation) -> None:
        columns = ("tenant_id", "id", "body")
        call = partial(
            self._database.vector_search, TABLE, [1.0, 0.0, 0.0], columns=columns, tenant_id=tenant
        )
        rows = await attempt(call, operation)
        self.unknown += rows is UNKNOWN
        if not isinstance(rows, Unknown):
            for row in rows:
                self._check(tenant, str(row["id"]), row)

    async def _change_all(self, tenant: str, operation: Operation) -> None:
        serial = self._serials.next(tenant)
        sql = f"update {TABLE} set body = $1 returning id"  # noqa: S608 - a constant
        rows = await self._run(tenant, operation, sql, f"{tenant}~{serial}")
        for cell in self._shelves[tenant].values():
            if rows is UNKNOWN:
                cell.late.add(serial)
            elif cell.now != {None} or cell.late:
                may_be_absent = None in cell.now or None in cell.late
                cell.now = {serial, None} if may_be_absent else {serial}

    async def _forge(self, tenant: str, operation: Operation) -> None:
        victim = choose(TENANTS, operation.other)
        if victim != tenant:
            # No `on conflict`, which would let the policy of reading stand in for that of writing.
            sql = f"insert into {TABLE} (tenant_id, id, body) values ($1, $2, $3)"  # noqa: S608
            key = choose(IDS, operation.key)
            await self._must_fail(tenant, sql, victim, key, f"{tenant}~forged")

    async def _give_away(self, tenant: str, operation: Operation) -> None:
        victim = choose(TENANTS, operation.other)
        cells = self._shelves[tenant].values()
        has_rows = any(None not in cell.now and None not in cell.late for cell in cells)
        if victim != tenant and has_rows:
            # Reads no column, for the same reason.
            sql = f"update {TABLE} set tenant_id = $1"  # noqa: S608 - a constant
            await self._must_fail(tenant, sql, victim)

    async def _abandon(self, tenant: str, operation: Operation) -> None:
        async def call() -> None:
            async with self._database.transaction(tenant) as transaction:
                await transaction.execute(f"delete from {TABLE}")  # noqa: S608 - a constant
                raise _Abandoned

        try:
            self.unknown += await attempt(call, operation) is UNKNOWN
        except _Abandoned:
            return

    async def _wipe(self, tenant: str, operation: Operation) -> None:
        answer = await self._run(tenant, operation, f"delete from {TABLE}")  # noqa: S608
        for cell in self._shelves[tenant].values():
            cell.wrote(None, answer)

    async def _intrude(self, tenant: str, operation: Operation) -> None:
        del tenant

        async def call(tenant_id: str | None) -> object:
            return await self._database.execute_query(_READ, tenant_id=tenant_id)

        await intrude(call, operation)

    async def _run(
        self, tenant: str, operation: Operation, sql: str, *args: object
    ) -> list[dict[str, object]] | Unknown:
        async def call(tenant_id: str | None) -> list[dict[str, object]]:
            rows = await self._database.execute_query(sql, *args, tenant_id=tenant_id)
            return [dict(row) for row in rows]

        answer = await attempt(partial(within, tenant, operation, call), operation)
        self.unknown += answer is UNKNOWN
        return answer

    async def _must_fail(self, tenant: str, sql: str, *args: object) -> None:
        """Run a statement that reaches into another tenant's rows."""
        try:
            await self._database.execute_query(sql, *args, tenant_id=tenant)
        except QueryError as error:
            if not self._forgetful and _REFUSED not in str(error):
                message = f"{self.name}: {tenant!r} learned from {args[0]!r}'s rows: {error}"
                raise Leak(message) from error
            return
        except SDKError:
            if not self._forgetful:
                raise
            return
        self._leaks(tenant, f"wrote into the rows of {args[0]!r}")

    def _check(self, tenant: str, key: str, row: Mapping[str, object] | None) -> None:
        if row is None:
            serial = None
        else:
            owner, _, number = str(row["body"]).partition("~")
            serial = int(number) if number.isdigit() else -1
            if {row["tenant_id"], owner, self._serials.owner(serial)} != {tenant}:
                self._leaks(tenant, f"read a row of {row['tenant_id']!r} that {owner!r} wrote")
        if not self._shelves[tenant][key].allows(serial):
            self._leaks(
                tenant, f"found {serial} at {key!r} instead of {self._shelves[tenant][key]!r}"
            )

    def _leaks(self, tenant: str, what: str) -> None:
        message = f"{self.name}: {tenant!r} {what}."
        raise Leak(message)


class _Abandoned(Exception):  # noqa: N818 - no error, but a change of mind
    """What leaves a transaction that is not to be committed."""
