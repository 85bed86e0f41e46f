"""Secrets are planted in whatever an operation is given; nothing that leaves may show one."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from motadata.core.errors import CacheError
from motadata.core.observability import (
    _tracing,
    configure_observability,
    counter,
    get_logger,
    span,
)
from motadata.core.observability._logging import output
from motadata.core.tenancy import tenant_scope


log = get_logger("leaks")
counted = counter("test.leaks")

# The first line imports structlog, which on a busy machine takes longer than examples may.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

MARK = "hunter2hunter2"
_keys = st.sampled_from(["sk-", "pk_", "rk-", "mtd.", "ghp_", "xoxb-"]).map(
    lambda kind: kind + MARK
)
_people = st.sampled_from([f"{MARK}@example.com", f"{MARK}.joe@mail.example.co.uk"])
_shaped = st.one_of(
    _keys,
    _people,
    st.just(f"Bearer {MARK}"),
    st.just(f"Basic {MARK}=="),
    st.just(f"postgresql://user:{MARK}@db.internal:5432/x"),
    st.just(f"redis://:{MARK}@cache/0"),
)
_around = st.text(alphabet=" .,;:()[]'\"\n\t=äx", max_size=40)
# A secret of a form that is known, anywhere in a text, under a name that says nothing.
texts = st.builds(
    lambda before, secret, after: f"{before} {secret} {after}", _around, _shaped, _around
)
# A secret of no form at all, under a name that says what it is.
telling_names = st.sampled_from(
    [
        *("password", "api_key", "apiKey", "x-api-key", "client_secret", "accessToken", "cookie"),
        *("prompt", "user_prompt", "messages", "document_text", "query", "answer", "body"),
    ]
)
values = st.recursive(
    st.one_of(st.none(), st.integers(), texts, texts.map(str.encode)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["a", "note"]), inner, max_size=3),
    ),
    max_leaves=8,
)


@contextlib.contextmanager
def _logged(event: str) -> Iterator[None]:
    try:
        yield
    except CacheError:
        log.exception(event)
        raise


@pytest.fixture(autouse=True)
def _default_output() -> Iterator[None]:
    yield
    output.configure()


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """Return what the spans since the last call show to whoever collects them."""
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(_tracing, "_tracer", provider.get_tracer("tests"))

    def shown() -> str:
        text = "".join(item.to_json() for item in exporter.get_finished_spans())
        exporter.clear()
        return text

    return shown


class TestLogs:
    @unhurried
    @given(values)
    def test_show_no_secret_of_a_known_form(self, value: object) -> None:
        stream = io.StringIO()
        configure_observability(stream=stream)
        log.info("event", detail=value, error_detail=[value], note=value)

        assert MARK not in stream.getvalue()

    @unhurried
    @given(telling_names)
    def test_show_nothing_that_is_named_like_a_secret_or_a_text(self, name: str) -> None:
        stream = io.StringIO()
        configure_observability(stream=stream)
        log.info("event", **{name: MARK, "outer": {name: [MARK], "inner": [{name: MARK}]}})

        assert MARK not in stream.getvalue()

    @unhurried
    @given(texts)
    def test_show_no_secret_that_stands_in_the_event_or_in_an_error(self, text: str) -> None:
        stream = io.StringIO()
        configure_observability(stream=stream)
        with contextlib.suppress(CacheError), _logged(text):
            raise CacheError(text) from ValueError(MARK)

        assert MARK not in stream.getvalue()


@unhurried
@given(texts, telling_names)
def test_spans_show_no_secret(spans: Callable[[], str], text: str, name: str) -> None:
    with span(text, {"note": text, name: MARK}, tenant_id="acme", detail=text) as current:
        current.set_attribute("later", text)
        current.set_attribute(name, MARK)
        current.record_error(CacheError(text))

    shown = spans()
    assert '"acme"' in shown
    assert MARK not in shown


@unhurried
@given(texts, telling_names)
def test_metrics_show_no_secret(text: str, name: str) -> None:
    bound = counted.bind({"note": text, name: MARK}, tenant_id="acme")

    assert MARK not in json.dumps(bound.attributes)


async def test_lines_of_one_tenant_never_carry_the_other_s_id(
    spans: Callable[[], str],
) -> None:
    lines: list[dict[str, object]] = []
    configure_observability(sink=lambda line: lines.append(dict(line)))

    async def work(tenant: str) -> None:
        with tenant_scope(tenant):
            for _ in range(100):
                with span("work", owner=tenant):
                    log.info("step", owner=tenant)
                    await asyncio.sleep(0)
                    await asyncio.to_thread(log.info, "thread", owner=tenant)

    await asyncio.gather(work("acme"), work("globex"))

    assert len(lines) == 400
    assert all(line["tenant"] == line["owner"] for line in lines)
    traces = {
        tenant: {line["trace_id"] for line in lines if line["tenant"] == tenant}
        for tenant in ("acme", "globex")
    }
    assert not traces["acme"] & traces["globex"]
    shown = spans()
    for mine, other in (("acme", "globex"), ("globex", "acme")):
        assert f'"owner": "{mine}"' in shown
        assert f'"motadata.tenant_id": "{mine}",\n        "owner": "{other}"' not in shown
