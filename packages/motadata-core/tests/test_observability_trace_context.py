"""The cases of the public W3C suite (w3c/trace-context, test/test.py), under its names.

Written anew against our own functions: a service takes the headers, works in a span, and calls
another one. Where the suite asserts that a header is refused, a trace id of our own must come out.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motadata.core.observability import (
    _tracing,
    current_trace_id,
    extract_trace,
    inject_trace,
    span,
)
from motadata.core.observability._propagation import _read, read_caller, trace_headers
from motadata.core.observability._trace_state import MemberList


Headers = list[tuple[str, str]]

TRACE = "12345678901234567890123456789012"
PARENT = "1234567890123456"
VALID = ("traceparent", f"00-{TRACE}-{PARENT}-00")
FORMAT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")


class Outgoing:
    """What the service sent on."""

    def __init__(self, headers: dict[str, str]) -> None:
        match = FORMAT.fullmatch(headers["traceparent"])
        assert match is not None
        self.trace_id, self.parent_id, flags = match.groups()
        self.flags = int(flags, 16)
        self.header = headers.get("tracestate", "")
        pairs = [member.partition("=") for member in self.header.split(",") if member]
        self.state = {key: value for key, _, value in pairs}


def calls(headers: Headers, count: int) -> list[Outgoing]:
    """Let the service take `headers` and make `count` calls, each in a span of its own."""
    made = []
    with extract_trace(headers), span("handle", kind="server"):
        for _ in range(count):
            with span("call", kind="client"):
                outgoing: dict[str, str] = {}
                inject_trace(outgoing)
            made.append(Outgoing(outgoing))
    return made


def call(*headers: tuple[str, str]) -> Outgoing:
    return calls(list(headers), 1)[0]


def state_of(*values: str) -> dict[str, str]:
    return call(VALID, *(("tracestate", value) for value in values)).state


def parent_of(value: str) -> str:
    return call(("traceparent", value)).trace_id


@pytest.fixture(autouse=True)
def _recording(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take part in traces; a process without an SDK passes its caller's span on, as it came."""
    trace = pytest.importorskip("opentelemetry.sdk.trace")
    provider = trace.TracerProvider(shutdown_on_exit=False)
    monkeypatch.setattr(_tracing, "_tracer", provider.get_tracer("tests"))


class TestTraceContext:
    def test_both_traceparent_and_tracestate_missing(self) -> None:
        assert call().trace_id

    def test_traceparent_included_tracestate_missing(self) -> None:
        outgoing = call(("traceparent", f"00-{TRACE}-{PARENT}-01"))

        assert outgoing.trace_id == TRACE
        assert outgoing.parent_id != PARENT

    def test_traceparent_duplicated(self) -> None:
        other = "12345678901234567890123456789011"
        outgoing = call(
            ("traceparent", f"00-{other}-{PARENT}-01"), ("traceparent", f"00-{TRACE}-{PARENT}-01")
        )

        assert outgoing.trace_id not in {TRACE, other}

    @pytest.mark.parametrize("name", ["trace-parent", "trace.parent"])
    def test_traceparent_header_name(self, name: str) -> None:
        assert call((name, f"00-{TRACE}-{PARENT}-01")).trace_id != TRACE

    @pytest.mark.parametrize("name", ["TraceParent", "TrAcEpArEnT", "TRACEPARENT"])
    def test_traceparent_header_name_valid_casing(self, name: str) -> None:
        assert call((name, f"00-{TRACE}-{PARENT}-01")).trace_id == TRACE

    @pytest.mark.parametrize("suffix", [".", "-what-the-future-will-be-like"])
    def test_traceparent_version_0x00(self, suffix: str) -> None:
        assert parent_of(f"00-{TRACE}-{PARENT}-01{suffix}") != TRACE

    def test_traceparent_version_0xcc(self) -> None:
        assert parent_of(f"cc-{TRACE}-{PARENT}-01") == TRACE
        assert parent_of(f"cc-{TRACE}-{PARENT}-01-what-the-future-will-be-like") == TRACE
        assert parent_of(f"cc-{TRACE}-{PARENT}-01.what-the-future-will-be-like") != TRACE

    def test_traceparent_version_0xff(self) -> None:
        assert parent_of(f"ff-{TRACE}-{PARENT}-01") != TRACE

    @pytest.mark.parametrize("version", [".0", "0."])
    def test_traceparent_version_illegal_characters(self, version: str) -> None:
        assert parent_of(f"{version}-{TRACE}-{PARENT}-01") != TRACE

    @pytest.mark.parametrize("version", ["000", "0000"])
    def test_traceparent_version_too_long(self, version: str) -> None:
        assert parent_of(f"{version}-{TRACE}-{PARENT}-01") != TRACE

    def test_traceparent_version_too_short(self) -> None:
        assert parent_of(f"0-{TRACE}-{PARENT}-01") != TRACE

    def test_traceparent_trace_id_all_zero(self) -> None:
        assert parent_of(f"00-{'0' * 32}-{PARENT}-01") != "0" * 32

    @pytest.mark.parametrize("trace_id", [f".{TRACE[1:]}", f"{TRACE[:-1]}."])
    def test_traceparent_trace_id_illegal_characters(self, trace_id: str) -> None:
        assert parent_of(f"00-{trace_id}-{PARENT}-01")[1:-1] != TRACE[1:-1]

    def test_traceparent_trace_id_too_long(self) -> None:
        assert parent_of(f"00-{TRACE}3-{PARENT}-01") not in {TRACE, f"{TRACE}3", f"{TRACE}3"[1:]}

    def test_traceparent_trace_id_too_short(self) -> None:
        assert not parent_of(f"00-{TRACE[:-1]}-{PARENT}-01").startswith(TRACE[:-1])

    def test_traceparent_parent_id_all_zero(self) -> None:
        assert parent_of(f"00-{TRACE}-{'0' * 16}-01") != TRACE

    @pytest.mark.parametrize("parent_id", [f".{PARENT[1:]}", f"{PARENT[:-1]}."])
    def test_traceparent_parent_id_illegal_characters(self, parent_id: str) -> None:
        assert parent_of(f"00-{TRACE}-{parent_id}-01") != TRACE

    def test_traceparent_parent_id_too_long(self) -> None:
        assert parent_of(f"00-{TRACE}-{PARENT}7-01") != TRACE

    def test_traceparent_parent_id_too_short(self) -> None:
        assert parent_of(f"00-{TRACE}-{PARENT[:-1]}-01") != TRACE

    @pytest.mark.parametrize("flags", [".0", "0."])
    def test_traceparent_trace_flags_illegal_characters(self, flags: str) -> None:
        assert parent_of(f"00-{TRACE}-{PARENT}-{flags}") != TRACE

    def test_traceparent_trace_flags_too_long(self) -> None:
        assert parent_of(f"00-{TRACE}-{PARENT}-001") != TRACE

    def test_traceparent_trace_flags_too_short(self) -> None:
        assert parent_of(f"00-{TRACE}-{PARENT}-1") != TRACE

    @pytest.mark.parametrize(
        ("before", "behind"), [(" ", ""), ("\t", ""), ("", " "), ("", "\t"), ("\t ", " \t")]
    )
    def test_traceparent_ows_handling(self, before: str, behind: str) -> None:
        assert parent_of(f"{before}00-{TRACE}-{PARENT}-01{behind}") == TRACE

    def test_tracestate_included_traceparent_missing(self) -> None:
        one, two = call(("tracestate", "foo=1")), call(("tracestate", "foo=1,bar=2"))

        assert one.state == two.state == {}

    def test_tracestate_included_traceparent_included(self) -> None:
        outgoing = call(VALID, ("tracestate", "foo=1,bar=2"))

        assert outgoing.trace_id == TRACE
        assert outgoing.state == {"foo": "1", "bar": "2"}

    @pytest.mark.parametrize("name", ["trace-state", "trace.state"])
    def test_tracestate_header_name(self, name: str) -> None:
        assert call(VALID, (name, "foo=1")).state == {}

    @pytest.mark.parametrize("name", ["TraceState", "TrAcEsTaTe", "TRACESTATE"])
    def test_tracestate_header_name_valid_casing(self, name: str) -> None:
        assert call(VALID, (name, "foo=1")).state == {"foo": "1"}

    @pytest.mark.parametrize(
        ("values", "state"),
        [(("",), {}), (("foo=1", ""), {"foo": "1"}), (("", "foo=1"), {"foo": "1"})],
    )
    def test_tracestate_empty_header(self, values: tuple[str, ...], state: dict[str, str]) -> None:
        outgoing = call(VALID, *(("tracestate", value) for value in values))

        assert outgoing.trace_id == TRACE
        assert outgoing.state == state

    def test_tracestate_multiple_headers_different_keys(self) -> None:
        values = ["foo=1,bar=2", "rojo=1,congo=2", "baz=3"]
        outgoing = call(VALID, *(("tracestate", value) for value in values))

        assert outgoing.trace_id == TRACE
        assert outgoing.header == "foo=1,bar=2,rojo=1,congo=2,baz=3"

    @pytest.mark.parametrize(
        "values", [("foo=1,foo=1",), ("foo=1,foo=2",), ("foo=1", "foo=1"), ("foo=1", "foo=2")]
    )
    def test_tracestate_duplicated_keys(self, values: tuple[str, ...]) -> None:
        outgoing = call(VALID, *(("tracestate", value) for value in values))

        assert outgoing.trace_id == TRACE
        assert outgoing.header == "foo=1"

    @pytest.mark.parametrize("vendor", ["", "@a-z0-9_-*/"])
    def test_tracestate_all_allowed_characters(self, vendor: str) -> None:
        key = "abcdefghijklmnopqrstuvwxyz0123456789_-*/" + vendor
        codes = itertools.chain(range(0x20, 0x2C), range(0x2D, 0x3D), range(0x3E, 0x7F))
        value = "".join(map(chr, codes))

        assert state_of(f"{key}={value}") == {key: value}

    @pytest.mark.parametrize(
        "value", ["foo=1 \t , \t bar=2, \t baz=3", "foo=1\t \t,\t \tbar=2,\t \tbaz=3"]
    )
    def test_tracestate_ows_handling(self, value: str) -> None:
        assert state_of(value) == {"foo": "1", "bar": "2", "baz": "3"}
        for around in (" foo=1", "\tfoo=1", "foo=1 ", "foo=1\t", "\t foo=1 \t"):
            assert state_of(around) == {"foo": "1"}

    @pytest.mark.parametrize("value", ["foo =1", "FOO=1", "foo.bar=1"])
    def test_tracestate_key_illegal_characters(self, value: str) -> None:
        assert state_of(value) == {}

    def test_tracestate_key_illegal_vendor_format(self) -> None:
        for key in ("foo@", "foo@@bar", "foo@bar@baz"):
            assert state_of(f"{key}=1,bar=2") == {key: "1", "bar": "2"}
        assert state_of("@foo=1,bar=2") == {}

    def test_tracestate_member_count_limit(self) -> None:
        members = [f"bar{number:02}={number:02}" for number in range(1, 34)]

        assert len(state_of(",".join(members[:20]), ",".join(members[20:32]))) == 32
        assert state_of(",".join(members[:20]), ",".join(members[20:])) == {}

    def test_tracestate_key_length_limit(self) -> None:
        for key in ("z" * 256, "t" * 241 + "@" + "v" * 14, "t" * 242 + "@v", "t@" + "v" * 15):
            assert state_of("foo=1", f"{key}=1") == {"foo": "1", key: "1"}
        assert state_of("foo=1", "z" * 257 + "=1") == {}

    @pytest.mark.parametrize("value", ["foo=bar=baz", "foo=,bar=3"])
    def test_tracestate_value_illegal_characters(self, value: str) -> None:
        assert state_of(value) == {}


class TestAdvanced:
    def test_multiple_requests_with_valid_traceparent(self) -> None:
        made = calls([("traceparent", f"00-{TRACE}-{PARENT}-01")], 3)

        assert {outgoing.trace_id for outgoing in made} == {TRACE}
        assert len({outgoing.parent_id for outgoing in made}) == 3

    def test_multiple_requests_without_traceparent(self) -> None:
        assert len({outgoing.parent_id for outgoing in calls([], 3)}) == 3

    def test_multiple_requests_with_illegal_traceparent(self) -> None:
        made = calls([("traceparent", f"00-{'0' * 32}-{PARENT}-01")], 3)

        assert "0" * 32 not in {outgoing.trace_id for outgoing in made}
        assert len({outgoing.parent_id for outgoing in made}) == 3


class TestTraceContextLevel2:
    def test_propagates_random_flag(self) -> None:
        outgoing = call(("traceparent", f"00-{TRACE}-{PARENT}-02"))

        assert outgoing.trace_id == TRACE
        assert outgoing.parent_id != PARENT
        assert outgoing.flags & 0x02


class TestWithoutAnSdk:
    """What records nothing must not break the chain: it hands on what it was handed."""

    @pytest.fixture(autouse=True)
    def _not_recording(self, _recording: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.undo()
        return iter([None])

    def test_caller_s_span_is_passed_on_as_it_came(self) -> None:
        outgoing = call(("traceparent", f"00-{TRACE}-{PARENT}-03"), ("tracestate", "foo=1,bar=2"))

        assert (outgoing.trace_id, outgoing.parent_id, outgoing.flags) == (TRACE, PARENT, 3)
        assert outgoing.header == "foo=1,bar=2"

    @given(
        st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-x)?", fullmatch=True)
        | st.sampled_from(
            [
                f"00-{'0' * 32}-{PARENT}-01",
                f"00-{TRACE}-{'0' * 16}-01",
                f" 00-{TRACE}-{PARENT}-01",
                f"00-{TRACE}-{PARENT}-01\n",
            ]
        )
    )
    def test_header_of_a_message_reads_as_the_header_of_a_request(self, parent: str) -> None:
        plain, careful = read_caller(parent, None), _read({"traceparent": parent})

        assert (plain is None) == (careful is None)
        if plain is not None and careful is not None:
            assert plain.get_span_context() == careful.get_span_context()
            assert trace_headers(plain) == trace_headers(careful)

    def test_flags_that_nobody_knows_are_not_passed_on(self) -> None:
        assert call(("traceparent", f"00-{TRACE}-{PARENT}-ff")).flags == 3


class TestMemberList:
    def test_changes_make_another_one_with_the_newest_in_front(self) -> None:
        state = MemberList.from_header(["foo=1,bar=2"])

        assert state.update("bar", "3").to_header() == "bar=3,foo=1"
        assert state.add("baz", "3").to_header() == "baz=3,foo=1,bar=2"
        assert state.delete("foo").to_header() == "bar=2"
        assert dict(state) == {"foo": "1", "bar": "2"}

    def test_change_that_breaks_the_grammar_is_none(self) -> None:
        state = MemberList.from_header([",".join(f"a{number}=1" for number in range(32))])

        assert state.add("b", "1") is state
        assert state.add("a1", "2") is state
        assert state.update("a1", "2").to_header().startswith("a1=2,a0=1")
        assert state.update("A", "2") is state
        assert state.update("a1", "2,b=3") is state

    @settings(deadline=None)
    @given(st.lists(st.text(alphabet="abc@=*,. \tA\n\x00é", max_size=30), max_size=4))
    def test_whatever_is_read_is_written_so_that_it_reads_the_same(self, values: list[str]) -> None:
        state = MemberList.from_header(values)

        assert dict(MemberList.from_header([state.to_header()])) == dict(state)
        assert state.to_header().isprintable()


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["traceparent", "tracestate", "x"]), st.text())))
def test_no_header_fails_the_request(headers: Headers) -> None:
    with extract_trace(headers):
        pass
    assert current_trace_id() is None


@pytest.mark.parametrize(
    "value",
    [
        "traceparent\n",
        "0" * 100_000,
        f"00-{TRACE}-{PARENT}-01\n",
        f"00-{TRACE}-{PARENT}-01-" + "x" * 600,
    ],
)
def test_hostile_parent_is_not_continued(value: str) -> None:
    assert parent_of(value) != TRACE
