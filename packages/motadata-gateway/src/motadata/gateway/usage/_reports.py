"""What tenants used: sums by day, model and the like, the rows themselves, and their end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final
from uuid import UUID

from motadata.core.errors import ConfigurationError
from motadata.core.protocols import Database, Row, UsageGroup
from motadata.core.tenancy import resolve_tenant
from motadata.gateway.usage._record import COLUMNS


_GROUPS: Final[Mapping[str, str]] = {
    "day": "(began_at at time zone 'UTC')::date::text",
    "month": "to_char(began_at at time zone 'UTC', 'YYYY-MM')",
    "operation": "operation",
    "model": "model",
    "provider": "provider",
    "feature": "feature",
    "user": "user_id",
    "prompt": "prompt",
    "error": "error",
    "price_version": "price_version",
}
_SUMS: Final = """
count(*) as calls,
sum(input_tokens)::bigint as input_tokens,
sum(cached_input_tokens)::bigint as cached_input_tokens,
sum(cache_write_tokens)::bigint as cache_write_tokens,
sum(long_cache_write_tokens)::bigint as long_cache_write_tokens,
sum(output_tokens)::bigint as output_tokens,
sum(reasoning_tokens)::bigint as reasoning_tokens,
coalesce(sum(cost_usd), 0) as cost_usd,
coalesce(sum(saved_usd), 0) as saved_usd,
count(*) filter (where cost_usd is null) as unpriced,
count(*) filter (where cached <> '') as cached,
count(*) filter (where shared) as shared,
count(*) filter (where fallback_from is not null) as fell_back,
count(*) filter (where error <> '') as failed,
count(*) filter (where lost > 0) as lost,
coalesce(avg(seconds), 0) as mean_seconds
"""
# Ids of calls begin with the time, so that the primary key finds a range of it.
_WITHIN: Final = "tenant_id = $1 and call_id >= $2 and call_id < $3"
_PAGE: Final = 1000
_MOST_DELETED: Final = 10_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageSum:
    """What a group of calls used, added up.

    Attributes:
        group: What the calls have in common, in the order in which it was asked for.
        calls: How many there were; the numbers after `saved_usd` are how many of them did so.
        input_tokens: Sent.
        cached_input_tokens: Those that the providers had in their prompt caches.
        cache_write_tokens: Those that they wrote there.
        long_cache_write_tokens: Those of them that they keep for an hour.
        output_tokens: Received.
        reasoning_tokens: Those that were thought and not said.
        cost_usd: What the providers charged, as far as it is known.
        saved_usd: What cached and shared answers would have cost.
        unpriced: Had no known price.
        cached: Were answered by a cache.
        shared: Were answered by an equal call under way.
        fell_back: Were answered by another model than the one that was asked.
        failed: Ended with an error.
        lost: Had requests that the providers may charge for, and never said the use of.
        mean_seconds: How long they took.
    """

    group: tuple[str, ...]
    calls: int
    input_tokens: int
    cached_input_tokens: int
    cache_write_tokens: int
    long_cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost_usd: Decimal
    saved_usd: Decimal
    unpriced: int
    cached: int
    shared: int
    fell_back: int
    failed: int
    lost: int
    mean_seconds: float


class UsageReports:
    """Reads the usage log, one tenant at a time.

    Args:
        database: Where `motadata.gateway.migrations` has run.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def usage_by(
        self,
        *groups: UsageGroup,
        since: datetime | None = None,
        until: datetime | None = None,
        where: Mapping[UsageGroup, str] | None = None,
        tenant_id: str | None = None,
    ) -> list[UsageSum]:
        """Return what the tenant used, by nothing (one sum), or by one thing or several.

            sums = await reports.usage_by("day", "model", since=monday, tenant_id="acme")

        Args:
            groups: What to tell apart; days and months are those of UTC.
            since: Calls that began then or later; None means all.
            until: Calls that began before; None means all.
            where: What must be so, such as `{"feature": "incident-summary"}`.
            tenant_id: None means the tenant of the scope.

        Raises:
            ConfigurationError: A group is unknown, or a time is none or has no zone.
            TenantRequiredError: No tenant is given and none is in scope.
            DatabaseError: It could not be read.
        """
        tenant = resolve_tenant(tenant_id)
        terms = [_term(group) for group in groups]
        wanted = _filters(where)
        filters = "".join(
            f" and {_term(name)} = ${number}" for number, name in enumerate(wanted, start=4)
        )
        named = "".join(f"{term} as g{number}, " for number, term in enumerate(terms))
        order = ", ".join(f"g{number}" for number in range(len(terms)))
        sql = f"select {named}{_SUMS} from motadata.gateway_call where {_WITHIN}{filters}"  # noqa: S608 - constants
        if terms:
            sql += f" group by {order} order by {order}"
        bounds = (_bound("since", since, _EPOCH), _bound("until", until, _LAST))
        rows = await self._database.execute_query(
            sql, tenant, *bounds, *wanted.values(), tenant_id=tenant
        )
        return [_sum(row, len(terms)) for row in rows if row["calls"]]

    async def calls(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        tenant_id: str | None = None,
    ) -> AsyncIterator[Row]:
        """Yield the tenant's calls, the oldest first; a thousand are held at a time.

        Args:
            since: Those that began then or later; None means all.
            until: Those that began before; None means all.
            tenant_id: None means the tenant of the scope.

        Raises:
            ConfigurationError: A time is none or has no zone.
            TenantRequiredError: No tenant is given and none is in scope.
            DatabaseError: They could not be read.
        """
        tenant = resolve_tenant(tenant_id)
        after, end = _bound("since", since, _EPOCH), _bound("until", until, _LAST)
        names = ", ".join(COLUMNS)
        sql = (
            f"select {names} from motadata.gateway_call where {_WITHIN} "  # noqa: S608 - constants
            "order by call_id limit $4"
        )
        while True:
            page = await self._database.execute_query(
                sql, tenant, after, end, _PAGE, tenant_id=tenant
            )
            for row in page:
                yield row
            if len(page) < _PAGE:
                return
            after = UUID(int=UUID(str(page[-1]["call_id"])).int + 1)

    async def delete_older_than(self, age: timedelta, *, tenant_id: str | None = None) -> int:
        """Delete the tenant's calls that began longer ago, and return how many there were.

        Args:
            age: Positive; what is younger stays.
            tenant_id: None means the tenant of the scope.

        Raises:
            ConfigurationError: The age is none, or not positive.
            TenantRequiredError: No tenant is given and none is in scope.
            DatabaseError: Not all of them are deleted; call it again.
        """
        tenant = resolve_tenant(tenant_id)
        end = _id_before(age)
        sql = (
            "delete from motadata.gateway_call where tenant_id = $1 and call_id in ("
            "select call_id from motadata.gateway_call where tenant_id = $1 and call_id < $2 "
            "order by call_id limit $3)"
        )
        deleted = 0
        while True:
            # Some at a time, so that no lock and no statement takes long.
            async with self._database.transaction(tenant) as transaction:
                some = await transaction.execute(sql, tenant, end, _MOST_DELETED)
            deleted += some
            if some < _MOST_DELETED:
                return deleted


def _term(group: object) -> str:
    term = _GROUPS.get(group) if isinstance(group, str) else None
    if term is None:
        message = f"Usage is not told apart by {group!r}."
        raise ConfigurationError(message, remedy=f"Choose from {', '.join(_GROUPS)}.")
    return term


def _filters(where: object) -> dict[str, str]:
    if where is None:
        return {}
    if not isinstance(where, Mapping) or not all(isinstance(it, str) for it in where.values()):
        message = f"where={where!r} says nothing about calls."
        raise ConfigurationError(message, remedy='Pass texts by group, as in {"model": "p/m"}.')
    return dict(where)


def _bound(name: str, moment: object, otherwise: datetime) -> UUID:
    """Return the lowest id of a call that begins at that time, or at the other one if None."""
    if moment is None:
        moment = otherwise
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        fault = "has no zone" if isinstance(moment, datetime) else "is no time"
        message = f"{name}={moment!r} {fault}."
        raise ConfigurationError(message, remedy="Pass one such as datetime.now(UTC).")
    return _id_at(moment)


def _id_before(age: object) -> UUID:
    """Return the lowest id of a call that is not older."""
    if not isinstance(age, timedelta) or age <= timedelta():
        fault = "is not positive" if isinstance(age, timedelta) else "is no age"
        message = f"age={age!r} {fault}."
        raise ConfigurationError(
            message, remedy="Pass how long calls are to be kept, as in timedelta(days=90)."
        )
    now = datetime.now(UTC)
    return _id_at(now - min(age, now - _EPOCH))


def _id_at(moment: datetime) -> UUID:
    """Return the lowest id of a call that begins at that moment."""
    milliseconds = (moment - _EPOCH) // timedelta(milliseconds=1)
    return UUID(int=max(0, milliseconds) << 80)


def _sum(row: Row, groups: int) -> UsageSum:
    counts = {name: int(str(row[name])) for name in _COUNTS}
    return UsageSum(
        group=tuple(str(row[f"g{number}"]) for number in range(groups)),
        cost_usd=Decimal(str(row["cost_usd"])),
        saved_usd=Decimal(str(row["saved_usd"])),
        mean_seconds=float(str(row["mean_seconds"])),
        **counts,
    )


_COUNTS: Final[Sequence[str]] = (
    *("calls", "input_tokens", "cached_input_tokens", "cache_write_tokens"),
    *("long_cache_write_tokens", "output_tokens", "reasoning_tokens"),
    *("unpriced", "cached", "shared", "fell_back", "failed", "lost"),
)
