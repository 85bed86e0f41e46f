from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from pathlib import PurePosixPath
from typing import NoReturn
from uuid import UUID

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from pydantic import SecretStr

from motadata.core.errors import CacheError, ConfigurationError, SDKError
from motadata.core.models import Answer
from motadata.core.observability import (
    _tracing,
    configure_observability,
    current_trace_id,
    extract_trace,
    get_logger,
    inject_trace,
    redact,
    span,
)
from motadata.core.observability._logging import output
from motadata.core.tenancy import tenant_scope


log = get_logger("sample")

Lines = Callable[[], list[dict[str, object]]]


@pytest.fixture(autouse=True)
def _default_output() -> Iterator[None]:
    output.configure()
    yield
    output.configure()


@pytest.fixture
def lines() -> Lines:
    stream = io.StringIO()
    configure_observability(level="DEBUG", stream=stream, service_name="tests")
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


class TestLogging:
    def test_line_says_when_what_where_for_whom_and_in_which_trace(self, lines: Lines) -> None:
        with tenant_scope("acme"), span("sample.work") as current:
            log.info("stored", chunks=3)

        (line,) = lines()
        assert datetime.fromisoformat(str(line.pop("timestamp"))).tzinfo is not None
        assert len(str(line.pop("span_id"))) == 16
        assert line == {
            "level": "info",
            "service": "tests",
            "component": "sample",
            "event": "stored",
            "tenant": "acme",
            "trace_id": current.trace_id,
            "chunks": 3,
        }

    def test_line_outside_of_spans_and_scopes_has_neither_tenant_nor_trace(
        self, lines: Lines
    ) -> None:
        log.info("started")

        (line,) = lines()
        assert not {"tenant", "trace_id", "span_id"} & line.keys()

    def test_tenant_that_a_span_names_wins_over_the_scope_around_it(self, lines: Lines) -> None:
        with tenant_scope("acme"):
            with span("sample.work", tenant_id="globex"):
                log.info("inside")
            log.info("outside")
            log.info("named", tenant_id="initech")

        assert [line["tenant"] for line in lines()] == ["globex", "acme", "initech"]

    def test_unconfigured_it_writes_json_to_standard_error_from_warning_up(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        log.debug("a")
        log.info("b")
        log.warning("c")
        log.error("d")

        captured = capsys.readouterr()
        assert captured.out == ""
        assert [json.loads(line)["event"] for line in captured.err.splitlines()] == ["c", "d"]

    def test_level_is_obeyed(self) -> None:
        stream = io.StringIO()
        configure_observability(level="ERROR", stream=stream)
        log.warning("quiet")
        log.error("loud")

        assert "loud" in stream.getvalue()
        assert "quiet" not in stream.getvalue()

    def test_unknown_level_is_an_error_that_names_the_known_ones(self) -> None:
        with pytest.raises(ConfigurationError, match="DEBUG, INFO, WARNING, ERROR"):
            configure_observability(level="LOUD")  # type: ignore[arg-type]  # the point of the test

    def test_bound_fields_are_on_every_line_and_leave_the_logger_alone(self, lines: Lines) -> None:
        bound = log.bind(job=7)
        bound.info("one")
        bound.info("two", job=8)
        log.info("three")

        assert [line.get("job") for line in lines()] == [7, 8, None]

    def test_field_cannot_pose_as_one_of_the_fixed_ones(self, lines: Lines) -> None:
        with tenant_scope("acme"):
            log.info("real", level="fake", component="fake", tenant="fake", trace_id="fake")

        (line,) = lines()
        assert (line["event"], line["level"], line["component"], line["tenant"]) == (
            "real",
            "info",
            "sample",
            "acme",
        )
        assert line["field_tenant"] == "fake"

    def test_text_with_line_breaks_stays_on_one_line(self, lines: Lines) -> None:
        log.info("a\nb", note='x\n{"level": "error"}')

        assert len(lines()) == 1

    def test_error_is_written_without_the_message_of_a_foreign_exception(
        self, lines: Lines
    ) -> None:
        try:
            int("what somebody wrote")
        except ValueError:
            log.exception("parse_failed")

        (line,) = lines()
        assert line["error"] == {"type": "ValueError"}
        assert "test_core_observability.py" in str(line["frames"])
        assert "somebody" not in json.dumps(line)

    def test_error_of_ours_is_written_with_code_and_message(self, lines: Lines) -> None:
        log.error("failed", error=CacheError("The key is bad."))

        (line,) = lines()
        assert line["error"] == {
            "type": "CacheError",
            "code": "cache_error",
            "message": "The key is bad.",
        }

    def test_context_that_the_host_bound_in_structlog_is_on_the_line(self, lines: Lines) -> None:
        with structlog.contextvars.bound_contextvars(request="r-1", password="hunter2"):
            log.info("served")

        (line,) = lines()
        assert (line["request"], line["password"]) == ("r-1", "[redacted]")

    def test_sink_takes_the_lines_instead_of_the_stream(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        taken: list[dict[str, object]] = []
        configure_observability(sink=lambda line: taken.append(dict(line)))
        log.info("stored", chunks=3, api_key="k")

        assert (taken[0]["event"], taken[0]["chunks"]) == ("stored", 3)
        assert taken[0]["api_key"] == "[redacted]"
        assert capsys.readouterr().err == ""

    def test_lines_for_people_hold_event_and_fields(self) -> None:
        stream = io.StringIO()
        configure_observability(json=False, stream=stream)
        log.info("stored", chunks=3)

        assert "stored" in stream.getvalue()
        assert "chunks=3" in stream.getvalue()

    def test_closed_stream_does_not_fail_the_operation(self) -> None:
        stream = io.StringIO()
        configure_observability(stream=stream)
        stream.close()

        log.info("nobody_hears_this")

    def test_host_s_own_structlog_is_left_as_it_was(self) -> None:
        before = structlog.get_config()
        configure_observability(level="DEBUG", stream=io.StringIO())
        log.info("line")

        assert structlog.get_config() == before
        assert not structlog.is_configured()


class Colour(Enum):
    RED = "secret-red"


class TestRedaction:
    @pytest.mark.parametrize(
        "name",
        [
            "password",
            "api_key",
            "apiKey",
            "OPENAI_API_KEY",
            "x-api-key",
            "token",
            "access_token",
            "accessToken",
            "Authorization",
            "set-cookie",
            "client_secret",
            "password_hash",
            "db.password",
            "prompt",
            "user_prompt",
            "text",
            "document_text",
            "content",
            "query",
            "answer",
            "messages",
            "vector",
        ],
    )
    def test_secrets_and_what_people_wrote_are_replaced(self, name: str) -> None:
        assert redact(name, "hunter2") == "[redacted]"
        assert redact("outer", {name: "hunter2"}) == {name: "[redacted]"}
        assert redact("outer", [{name: ["hunter2"]}]) == [{name: "[redacted]"}]

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("input_tokens", 12),
            ("max_tokens", "12"),
            ("content_type", "text/plain"),
            ("document_id", "vpn"),
            ("token_count", 5),
            ("api_key_id", "k1"),
            ("messages", 3),
            ("text_length", 3),
            ("key", "cache key"),
            ("source", "a.md"),
        ],
    )
    def test_facts_about_them_stay(self, name: str, value: object) -> None:
        assert redact(name, value) == value

    def test_secret_numbers_are_replaced_too(self) -> None:
        assert redact("password", 1234) == "[redacted]"

    @pytest.mark.parametrize(
        "text",
        [
            "postgresql://user:hunter2@host/db",
            "redis://:hunter2@host",
            "Authorization: Bearer hunter2hunter2",
            "key sk-hunter2hunter2hunter2 was refused",
            "key mtd.acme.hunter2hunter2hunter2",
        ],
    )
    def test_secrets_of_known_form_go_from_any_text(self, text: str) -> None:
        assert "hunter2" not in str(redact("detail", text))

    def test_secret_that_the_cut_would_split_is_still_found(self) -> None:
        text = "x" * 490 + " postgresql://user:hunter2hunter2@host/db"

        assert "hunter2" not in str(redact("detail", text))

    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            (SecretStr("hunter2"), "<SecretStr>"),
            (b"hunter2", "<bytes>"),
            (Answer("q", "hunter2"), "<Answer>"),
            pytest.param(object(), "<object>", id="object"),
            (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
            (Decimal("0.10"), "0.10"),
            (PurePosixPath("a/b"), "a/b"),
            (datetime(2026, 11, 22, tzinfo=UTC), "2026-11-22 00:00:00+00:00"),
            (Colour.RED, "RED"),
            (float("nan"), "nan"),
            (ValueError("hunter2"), {"type": "ValueError"}),
            (None, None),
            (True, True),
        ],
        ids=repr,
    )
    def test_value_is_shown_plainly_or_by_its_type(self, value: object, shown: object) -> None:
        assert redact("detail", value) == shown

    def test_long_texts_and_large_collections_are_cut(self) -> None:
        assert len(str(redact("detail", "x" * 10_000))) == 501
        assert len(list(redact("items", list(range(1_000))))) == 50  # type: ignore[call-overload]  # a list
        assert "dict" in str(redact("deep", _nested(50)))

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        )
    )
    def test_whatever_is_logged_makes_one_line_of_json(self, value: object) -> None:
        stream = io.StringIO()
        output.configure(stream=stream)
        log.warning("event", detail=value)

        assert json.loads(stream.getvalue())["event"] == "event"
        assert stream.getvalue().count("\n") == 1


def _nested(depth: int) -> dict[str, object]:
    value: dict[str, object] = {}
    for _ in range(depth):
        value = {"inner": value}
    return value


class TestSpansWithoutAnSdk:
    def test_outside_of_every_span_there_is_no_trace(self) -> None:
        assert current_trace_id() is None

    def test_span_has_a_valid_trace_id_that_its_children_share(self) -> None:
        with span("outer") as outer:
            assert current_trace_id() == outer.trace_id
            with span("inner") as inner:
                assert inner.trace_id == outer.trace_id
        assert len(outer.trace_id) == 32
        assert int(outer.trace_id, 16) > 0
        assert current_trace_id() is None

    def test_traces_differ(self) -> None:
        ids = set()
        for _ in range(100):
            with span("work") as current:
                ids.add(current.trace_id)

        assert len(ids) == 100

    async def test_concurrent_tasks_have_traces_of_their_own(self) -> None:
        async def work() -> tuple[str, str | None]:
            with span("work") as current:
                await asyncio.sleep(0)
                return current.trace_id, current_trace_id()

        results = await asyncio.gather(*(work() for _ in range(50)))

        assert len({trace_id for trace_id, _ in results}) == 50
        assert all(trace_id == seen for trace_id, seen in results)

    def test_error_that_passes_gets_trace_and_tenant(self) -> None:
        with (
            pytest.raises(CacheError) as caught,
            span("outer", tenant_id="acme") as outer,
            span("inner"),
        ):
            _raise(CacheError("bad"))

        assert caught.value.trace_id == outer.trace_id
        assert caught.value.tenant_id == "acme"

    def test_error_has_the_trace_in_which_it_was_made(self) -> None:
        assert CacheError("bad").trace_id is None
        with span("work") as work:
            made = CacheError("bad")

        assert made.trace_id == work.trace_id

    def test_error_that_has_a_trace_keeps_it(self) -> None:
        with pytest.raises(SDKError) as caught, span("work"):
            _raise(SDKError("bad", trace_id="f" * 32, tenant_id="globex"))

        assert caught.value.trace_id == "f" * 32
        assert caught.value.tenant_id == "globex"

    def test_span_that_is_not_current_leaves_the_context_alone(self) -> None:
        with span("stream", tenant_id="acme", current=False) as apart:
            assert current_trace_id() is None
        assert int(apart.trace_id, 16) > 0

    async def test_generator_closed_in_another_context_is_no_error(self) -> None:
        async def numbers() -> AsyncIterator[int]:
            with span("stream", tenant_id="acme"):
                yield 1
                yield 2

        iterator = numbers()
        await asyncio.create_task(anext(iterator))  # type: ignore[arg-type]  # it is a coroutine
        await iterator.aclose()  # type: ignore[attr-defined]  # it is a generator

        assert current_trace_id() is None


class TestPropagation:
    def test_trace_goes_on_in_the_process_that_takes_the_message(self) -> None:
        carrier: dict[str, str] = {}
        with span("send") as sending:
            inject_trace(carrier)

        with extract_trace(carrier), span("handle") as handling:
            assert handling.trace_id == sending.trace_id
        assert current_trace_id() is None

    def test_nothing_is_written_outside_of_every_span(self) -> None:
        carrier: dict[str, str] = {}
        inject_trace(carrier)

        assert carrier == {}

    def test_header_names_match_in_any_case(self) -> None:
        header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        with extract_trace({"TraceParent": header, "Other": "x"}):
            assert current_trace_id() == "0af7651916cd43dd8448eb211c80319c"

    @pytest.mark.parametrize(
        "header",
        [
            "",
            "nonsense",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-" + "0" * 10_000,
        ],
        ids=lambda header: header[:12],
    )
    def test_malformed_header_starts_a_trace_of_its_own(self, header: str) -> None:
        with extract_trace({"traceparent": header}):
            assert current_trace_id() is None
            with span("handle") as handling:
                assert int(handling.trace_id, 16) > 0


class TestSpansWithAnSdk:
    @pytest.fixture
    def finished(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[dict[str, object]]]:
        """Record spans with a real SDK, of this test only: a process has one global provider."""
        pytest.importorskip("opentelemetry.sdk")
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        monkeypatch.setattr(_tracing, "_tracer", provider.get_tracer("tests"))
        return lambda: [json.loads(item.to_json()) for item in exporter.get_finished_spans()]

    def test_span_carries_name_kind_tenant_and_attributes(
        self, finished: Callable[[], list[dict[str, object]]]
    ) -> None:
        with tenant_scope("acme"), span("rag.query", kind="client", limit=8) as current:
            current.set_attribute("chunks", 5)

        (recorded,) = finished()
        assert recorded["name"] == "rag.query"
        assert recorded["kind"] == "SpanKind.CLIENT"
        assert recorded["attributes"] == {"motadata.tenant_id": "acme", "limit": 8, "chunks": 5}
        assert recorded["status"] == {"status_code": "UNSET"}

    def test_children_hang_below_their_parent(
        self, finished: Callable[[], list[dict[str, object]]]
    ) -> None:
        with span("outer") as outer, span("inner"):
            pass

        inner, parent = finished()
        assert inner["parent_id"] == parent["context"]["span_id"]  # type: ignore[index]  # a dict
        assert parent["context"]["trace_id"] == f"0x{outer.trace_id}"  # type: ignore[index]  # as above

    def test_error_of_ours_is_recorded_with_its_code(
        self, finished: Callable[[], list[dict[str, object]]]
    ) -> None:
        with pytest.raises(CacheError), span("work"):
            _raise(CacheError("The key is bad."))

        text = json.dumps(finished())
        assert '"status_code": "ERROR"' in text
        assert '"error.type": "cache_error"' in text
        assert "The key is bad." in text

    def test_foreign_error_is_recorded_without_its_message(
        self, finished: Callable[[], list[dict[str, object]]]
    ) -> None:
        with pytest.raises(ValueError, match="hunter2"), span("work"):
            int("hunter2")

        text = json.dumps(finished())
        assert '"error.type": "ValueError"' in text
        assert "hunter2" not in text

    async def test_cancellation_is_noted_and_is_no_failure(
        self, finished: Callable[[], list[dict[str, object]]]
    ) -> None:
        async def work() -> None:
            with span("work"):
                await asyncio.Event().wait()

        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

        (recorded,) = finished()
        assert recorded["attributes"] == {"motadata.cancelled": True}
        assert recorded["status"] == {"status_code": "UNSET"}

    def test_host_s_span_is_the_parent_of_ours(
        self, finished: Callable[[], list[dict[str, object]]]
    ) -> None:
        with _tracing._tracer.start_as_current_span("host") as host, span("ours") as ours:
            assert ours.trace_id == trace.format_trace_id(host.get_span_context().trace_id)

        assert [recorded["name"] for recorded in finished()] == ["ours", "host"]


class TestExport:
    """In processes of their own, since a process has one global tracer provider."""

    def test_endpoint_without_the_extra_is_an_error_that_names_it(self) -> None:
        code = (
            "import sys\n"
            "sys.modules['opentelemetry.exporter'] = None\n"
            "from motadata.core.observability import configure_observability\n"
            "from motadata.core.errors import MissingExtraError\n"
            "try:\n"
            "    configure_observability(otlp_endpoint='http://127.0.0.1:1')\n"
            "except MissingExtraError as error:\n"
            "    print(error)\n"
        )

        assert "pip install 'motadata-core[otlp]'" in _run(code)

    def test_without_an_endpoint_nothing_records(self) -> None:
        code = (
            "from opentelemetry import trace\n"
            "from motadata.core.observability import configure_observability, span\n"
            "configure_observability()\n"
            "with span('work'):\n"
            "    print(trace.get_current_span().is_recording())\n"
        )

        assert _run(code) == "False"

    def test_spans_reach_the_collector_when_the_process_ends(self) -> None:
        pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
        code = (
            "import threading, http.server\n"
            "got = []\n"
            "class Collector(http.server.BaseHTTPRequestHandler):\n"
            "    def do_POST(self):\n"
            "        body = self.rfile.read(int(self.headers['content-length']))\n"
            "        got.append((self.path, b'sample-service' in body or len(body)))\n"
            "        self.send_response(200); self.end_headers()\n"
            "    def log_message(self, *_): pass\n"
            "server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Collector)\n"
            "threading.Thread(target=server.serve_forever, daemon=True).start()\n"
            "from opentelemetry import trace\n"
            "from motadata.core.observability import configure_observability, span\n"
            "endpoint = f'http://127.0.0.1:{server.server_address[1]}'\n"
            "for _ in range(2):\n"
            "    configure_observability(otlp_endpoint=endpoint, service_name='sample-service')\n"
            "with span('work', tenant_id='acme') as current:\n"
            "    assert trace.get_current_span().is_recording()\n"
            "    assert trace.format_trace_id(trace.get_current_span().get_span_context().trace_id)"
            " == current.trace_id\n"
            "trace.get_tracer_provider().shutdown()\n"
            "print(len(got), got[0][0])\n"
        )

        assert _run(code) == "1 /v1/traces"


def _raise(error: Exception) -> NoReturn:
    raise error


def _run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.strip()
