"""Reading the usage log: sums, rows, files, and what is deleted; one tenant at a time."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from motadata.core.database import PostgresDatabase
from motadata.core.errors import ConfigurationError, GatewayError, TenantRequiredError
from motadata.core.models import Usage
from motadata.core.protocols import Database, UsageGroup
from motadata.gateway import Attribution, Call, CallNotes, ChatRequest
from motadata.gateway.usage import UsageReports, export_csv, export_parquet
from motadata.gateway.usage._insertion import insert
from motadata.gateway.usage._record import Course, line_of
from motadata.gateway.usage._reports import _id_at
from motadata.gateway.usage._spool import Line


NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def acme() -> str:
    return f"acme-{uuid4().hex}"


@pytest.fixture
def reports(database: PostgresDatabase) -> UsageReports:
    return UsageReports(database)


def line(
    tenant: str,
    at: datetime,
    *,
    model: str = "p/m",
    cost: str | None = "0.5",
    feature: str = "",
    salt: int = 0,
    error: str = "",
    saved: str | None = None,
    lost: int = 0,
) -> Line:
    notes = CallNotes(model=model, provider="p", attempts=1)
    notes.spent = Usage(100, 10, None if cost is None else Decimal(cost), 40, 20, 4, 0, 12)
    notes.price_version = "listed" if cost == "0.5" else "listed+own-unread"
    notes.saved_usd = None if saved is None else Decimal(saved)
    by = Attribution(feature=feature)
    request = ChatRequest(model, (), None, None, ())
    call = Call(request, NotImplemented, 1.0, tenant, None, "use", attribution=by, notes=notes)
    notes.call_id = str(UUID(int=_id_at(at).int + salt))
    course = Course(at.timestamp(), 0.0, seconds=0.25, error=error, lost=lost)
    return Line(tenant, line_of(call, course, operation="chat", trace_id=""))


def of_before(line: Line) -> Line:
    """Return a line as it was left on disk before the columns of migration 0040."""
    row = json.loads(line.body)
    del row["long_cache_write_tokens"], row["lost"]
    return line._replace(body=json.dumps(row).encode())


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def put(database: Database, lines: Sequence[Line]) -> None:
    assert await insert(database, lines, timeout=10.0) == []


async def test_sums_are_told_apart_by_what_is_asked_for(
    reports: UsageReports, database: PostgresDatabase, acme: str
) -> None:
    lines = [
        line(acme, NOON, cost="0.1"),
        line(acme, NOON, cost="0.2", salt=1, saved="0.05"),
        line(acme, NOON, cost=None, model="p/new", salt=2, error="provider_error"),
        line(acme, NOON + timedelta(days=1), cost="0.4", feature="summary"),
    ]
    await put(database, lines)

    by_day = await reports.usage_by("day", "model", tenant_id=acme)
    assert [(each.group, each.calls, each.cost_usd, each.unpriced) for each in by_day] == [
        (("2026-03-01", "p/m"), 2, Decimal("0.3"), 0),
        (("2026-03-01", "p/new"), 1, Decimal(0), 1),
        (("2026-03-02", "p/m"), 1, Decimal("0.4"), 0),
    ]
    [everything] = await reports.usage_by(tenant_id=acme)
    assert (everything.calls, everything.input_tokens, everything.failed) == (4, 400, 1)
    assert (everything.saved_usd, everything.mean_seconds) == (Decimal("0.05"), 0.25)
    [summary] = await reports.usage_by("feature", where={"feature": "summary"}, tenant_id=acme)
    assert (summary.group, summary.cost_usd) == (("summary",), Decimal("0.4"))


async def test_sums_tell_costs_by_other_prices_than_the_unknown_own_ones_apart(
    reports: UsageReports, database: PostgresDatabase, acme: str
) -> None:
    await put(database, [line(acme, NOON), line(acme, NOON, cost="0.1", salt=1)])

    found = await reports.usage_by("price_version", tenant_id=acme)
    assert [(each.group, each.cost_usd) for each in found] == [
        (("listed",), Decimal("0.5")),
        (("listed+own-unread",), Decimal("0.1")),
    ]


async def test_sums_tell_cache_writes_and_calls_whose_use_was_lost(
    reports: UsageReports, database: PostgresDatabase, acme: str
) -> None:
    lost = line(acme, NOON, cost=None, salt=1, error="provider_error", lost=2)
    await put(database, [line(acme, NOON), lost])

    [found] = await reports.usage_by(tenant_id=acme)
    assert (found.cache_write_tokens, found.long_cache_write_tokens) == (40, 24)
    assert (found.calls, found.unpriced, found.lost) == (2, 1, 1)


async def test_lines_that_an_older_version_left_on_disk_arrive_beside_new_ones(
    reports: UsageReports, database: PostgresDatabase, acme: str
) -> None:
    await put(database, [of_before(line(acme, NOON)), line(acme, NOON, salt=1, lost=1)])

    found = [row async for row in reports.calls(tenant_id=acme)]
    assert [(row["long_cache_write_tokens"], row["lost"]) for row in found] == [(0, 0), (12, 1)]
    assert [row["cache_write_tokens"] for row in found] == [20, 20]


async def test_instance_of_an_older_version_goes_on_to_write_while_others_are_newer(
    reports: UsageReports, database: PostgresDatabase, acme: str
) -> None:
    row = json.loads(of_before(line(acme, NOON)).body) | {"tenant_id": acme}
    names = ", ".join(row)
    sql = (
        f"insert into motadata.gateway_call ({names}) select {names} "
        "from jsonb_populate_record(null::motadata.gateway_call, $1::text::jsonb)"
    )
    await database.execute_query(sql, json.dumps(row), tenant_id=acme)

    [found] = [row async for row in reports.calls(tenant_id=acme)]
    assert (found["long_cache_write_tokens"], found["lost"]) == (0, 0)


async def test_since_is_within_and_until_is_not(
    reports: UsageReports, database: PostgresDatabase, acme: str
) -> None:
    hours = [NOON + timedelta(hours=number) for number in range(4)]
    await put(database, [line(acme, at) for at in hours])

    [found] = await reports.usage_by(since=hours[1], until=hours[3], tenant_id=acme)
    assert found.calls == 2


async def test_calls_come_in_order_and_all_of_them(
    reports: UsageReports, database: PostgresDatabase, acme: str
) -> None:
    await put(database, [line(acme, NOON, salt=number) for number in range(2345)])

    found = [row["call_id"] async for row in reports.calls(tenant_id=acme)]
    assert (len(found), found) == (2345, sorted(found, key=str))


async def test_csv_holds_every_call_and_no_formula(
    reports: UsageReports, database: PostgresDatabase, acme: str
) -> None:
    first_line = line(acme, NOON, feature="=cmd()", cost="0.0000001")
    await put(database, [first_line, line(acme, NOON, salt=1, lost=1)])

    text = "".join([part async for part in export_csv(reports.calls(tenant_id=acme))])
    first, second = csv.DictReader(io.StringIO(text))
    assert (first["feature"], first["cost_usd"], first["verdicts"]) == (
        "'=cmd()",
        "0.0000001",
        "[]",
    )
    assert (second["input_tokens"], second["model"]) == ("100", "p/m")
    assert (second["long_cache_write_tokens"], first["lost"], second["lost"]) == ("12", "0", "1")


async def test_parquet_holds_every_call_with_exact_money(
    reports: UsageReports, database: PostgresDatabase, acme: str, tmp_path: Path
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    await put(database, [line(acme, NOON, cost="0.000000001"), line(acme, NOON, cost=None, salt=1)])

    count = await export_parquet(reports.calls(tenant_id=acme), tmp_path / "calls.parquet")
    rows = parquet.read_table(tmp_path / "calls.parquet").to_pylist()
    assert (count, len(rows)) == (2, 2)
    assert [row["cost_usd"] for row in rows] == [Decimal("0.000000001"), None]
    assert rows[0]["began_at"] == NOON
    assert (rows[0]["long_cache_write_tokens"], rows[0]["lost"]) == (12, 0)
    assert names(tmp_path) == ["calls.parquet"]


async def test_parquet_that_cannot_be_written_says_so(
    reports: UsageReports, acme: str, tmp_path: Path
) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(GatewayError, match=r"calls\.parquet"):
        await export_parquet(reports.calls(tenant_id=acme), tmp_path / "no" / "calls.parquet")


async def test_what_is_too_old_is_deleted_for_this_tenant_alone(
    reports: UsageReports, database: PostgresDatabase, acme: str
) -> None:
    now = datetime.now(UTC)
    other = f"{acme}-2"
    for tenant in (acme, other):
        old = [line(tenant, now - timedelta(days=100), salt=number) for number in range(3)]
        await put(database, [*old, line(tenant, now - timedelta(days=10))])

    assert await reports.delete_older_than(timedelta(days=30), tenant_id=acme) == 3
    assert await reports.delete_older_than(timedelta(days=30), tenant_id=acme) == 0
    assert [each.calls for each in await reports.usage_by(tenant_id=acme)] == [1]
    assert [each.calls for each in await reports.usage_by(tenant_id=other)] == [4]


async def test_reports_show_a_tenant_nothing_of_another(
    reports: UsageReports, database: PostgresDatabase, acme: str
) -> None:
    await put(database, [line(acme, NOON)])

    assert await reports.usage_by("model", tenant_id=f"{acme}-2") == []
    assert [row async for row in reports.calls(tenant_id=acme.upper())] == []
    with pytest.raises(TenantRequiredError):
        await reports.usage_by("model")


async def test_lines_of_many_tenants_end_up_with_their_own(
    reports: UsageReports, database: PostgresDatabase, acme: str
) -> None:
    tenants = [f"{acme}-{number}" for number in range(20)]
    lines = [line(tenant, NOON, salt=number) for number in range(3) for tenant in tenants]
    await put(database, lines)
    await put(database, lines)

    for tenant in tenants:
        assert [each.calls for each in await reports.usage_by(tenant_id=tenant)] == [3]


@pytest.mark.parametrize("group", ["tenant_id", "model; drop table x", "", ["day"], None])
async def test_unknown_group_is_refused(reports: UsageReports, acme: str, group: object) -> None:
    with pytest.raises(ConfigurationError, match="Choose from day"):
        await reports.usage_by(group, tenant_id=acme)  # type: ignore[arg-type]  # the mistake


@pytest.mark.parametrize("time", ["2026-03-01", "", 0, date(2026, 3, 1)])
async def test_time_that_is_none_is_refused(
    reports: UsageReports, acme: str, time: datetime
) -> None:
    with pytest.raises(ConfigurationError, match=r"since=.* is no time"):
        await reports.usage_by(since=time, tenant_id=acme)
    with pytest.raises(ConfigurationError, match=r"until=.* is no time"):
        await reports.usage_by(until=time, tenant_id=acme)
    with pytest.raises(ConfigurationError, match=r"since=.* is no time"):
        await anext(reports.calls(since=time, tenant_id=acme))


@pytest.mark.parametrize("where", ["model", 5, {"model": 5}])
async def test_filter_that_is_none_is_refused(
    reports: UsageReports, acme: str, where: dict[UsageGroup, str]
) -> None:
    with pytest.raises(ConfigurationError, match="where="):
        await reports.usage_by(where=where, tenant_id=acme)


async def test_time_without_a_zone_is_refused(reports: UsageReports, acme: str) -> None:
    naive = datetime.combine(date(2026, 3, 1), datetime.min.time())
    with pytest.raises(ConfigurationError, match="no zone"):
        await reports.usage_by(since=naive, tenant_id=acme)


@pytest.mark.parametrize("age", [timedelta(), -timedelta(days=1), 5, None])
async def test_age_that_is_none_is_refused(
    reports: UsageReports, acme: str, age: timedelta
) -> None:
    with pytest.raises(ConfigurationError, match=r"age=.*timedelta"):
        await reports.delete_older_than(age, tenant_id=acme)


async def test_nothing_is_older_than_time_itself(
    reports: UsageReports, database: PostgresDatabase, acme: str
) -> None:
    await put(database, [line(acme, NOON)])

    assert await reports.delete_older_than(timedelta.max, tenant_id=acme) == 0
