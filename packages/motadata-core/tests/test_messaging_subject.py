"""Subjects, consumer names and message ids read in one way only."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motadata.core.errors import InvalidIdentifierError, MessagingError
from motadata.core.messaging import _subject as subjects
from motadata.core.messaging._memory_consumer import matches
from motadata.core.tenancy import TenantId


_ALPHABET = "abzAZ09_-"
names = st.text(_ALPHABET, min_size=1, max_size=8)
types = st.lists(names, min_size=1, max_size=subjects.MAX_TYPE_TOKENS).map(".".join)
tenants = names.map(TenantId)
hostile = st.text(st.sampled_from([*_ALPHABET, ".", "*", ">", " ", "\r", "\n", "=", "@", "é"]))


@given(names, names, tenants)
def test_agent_subject_parses_back(sender: str, recipient: str, tenant: TenantId):
    address = subjects.parse_subject(subjects.agent_subject(sender, recipient, tenant))
    assert address == subjects.Address("agent", recipient, tenant, sender)


@given(types, tenants)
def test_event_subject_parses_back(event_type: str, tenant: TenantId):
    address = subjects.parse_subject(subjects.event_subject(event_type, tenant))
    assert address == subjects.Address("event", event_type, tenant)


@given(names, tenants)
def test_work_subject_parses_back(workflow: str, tenant: TenantId):
    address = subjects.parse_subject(subjects.work_subject(workflow, tenant))
    assert address == subjects.Address("work", workflow, tenant)


@given(types, tenants, types, tenants)
def test_pattern_of_a_tenant_fits_its_own_event_only(
    event_type: str, tenant: TenantId, other_type: str, other: TenantId
):
    pattern = subjects.event_pattern(event_type, tenant)
    subject = subjects.event_subject(other_type, other)
    assert matches(pattern, subject) == ((event_type, tenant) == (other_type, other))


@given(types, types, tenants)
def test_pattern_of_all_tenants_fits_its_own_type_only(
    event_type: str, other_type: str, tenant: TenantId
):
    pattern = subjects.event_pattern(event_type, None)
    assert matches(pattern, subjects.event_subject(other_type, tenant)) == (
        event_type == other_type
    )


@given(hostile)
def test_whatever_parses_is_built_of_identifiers_alone(token: str):
    for subject in (f"sdk.agent.a.b.{token}", f"sdk.events.{token}.a", f"sdk.workflow.{token}.a"):
        try:
            address = subjects.parse_subject(subject)
        except MessagingError:
            continue
        assert not set(f"{address.name}{address.tenant}") & set("*> \r\n=@é")


@given(hostile)
def test_no_hostile_name_gets_into_a_pattern(token: str):
    for build in (
        lambda: subjects.agent_pattern(token, TenantId("a")),
        lambda: subjects.event_pattern(token, None),
        lambda: subjects.work_pattern(token, None),
        lambda: subjects.dead_letter_subject(token, TenantId("a")),
        lambda: subjects.consumer_name(token, None),
    ):
        try:
            built = build()
        except InvalidIdentifierError:
            continue
        assert set(token) <= {*_ALPHABET, "."}
        assert ">" not in built


@given(names, st.none() | tenants, names, st.none() | tenants)
def test_two_consumers_have_two_names(
    name: str, tenant: TenantId | None, other: str, other_tenant: TenantId | None
):
    same = subjects.consumer_name(name, tenant) == subjects.consumer_name(other, other_tenant)
    assert same == ((name, tenant) == (other, other_tenant))


@given(types, tenants, names, types, tenants, names)
def test_two_messages_have_two_stored_ids(
    one: str, tenant: TenantId, own: str, other: str, other_tenant: TenantId, others_own: str
):
    first = subjects.stored_id(subjects.event_subject(one, tenant), own)
    second = subjects.stored_id(subjects.event_subject(other, other_tenant), others_own)
    assert (first == second) == ((one, tenant, own) == (other, other_tenant, others_own))
    assert subjects.message_id_of(first) == own


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "sdk",
        "sdk.agent.a.b",
        "sdk.agent.a.b.c.d",
        "sdk.events.acme",
        "sdk.events.a.b.c.d.e.acme",
        "sdk.workflow.a.b.c",
        "other.agent.a.b.c",
        "sdk.agent.a..c",
        "$JS.API.INFO",
    ],
)
def test_subject_of_another_form_is_refused(subject: str):
    with pytest.raises(MessagingError) as caught:
        subjects.parse_subject(subject)
    assert not caught.value.retryable


lanes = st.integers(0, subjects.LANES - 1)


@given(types, tenants, lanes)
def test_subject_with_a_lane_parses_back(event_type: str, tenant: TenantId, lane: int):
    event = subjects.in_lane(subjects.event_subject(event_type, tenant), lane)
    assert subjects.parse_subject(event) == subjects.Address("event", event_type, tenant, lane=lane)
    work = subjects.in_lane(subjects.work_subject("flow", tenant), lane)
    assert subjects.parse_subject(work) == subjects.Address("work", "flow", tenant, lane=lane)


@given(types, tenants, lanes, types, tenants, st.one_of(st.none(), lanes))
def test_pattern_of_a_lane_fits_that_lane_of_its_own_events_only(
    event_type: str,
    tenant: TenantId,
    lane: int,
    other_type: str,
    other: TenantId,
    other_lane: int | None,
):
    subject = subjects.event_subject(other_type, other)
    if other_lane is not None:
        subject = subjects.in_lane(subject, other_lane)
    for whose, mine in ((tenant, tenant == other), (None, True)):
        pattern = subjects.in_lane(subjects.event_pattern(event_type, whose), lane)
        assert matches(pattern, subject) == (
            mine and (event_type, lane) == (other_type, other_lane)
        )


@pytest.mark.parametrize("lane", ["=8", "=", "=x", "=00", "==1"])
def test_lane_that_is_none_makes_no_subject(lane: str):
    for subject in (f"sdk.events.a.{lane}.acme", f"sdk.workflow.a.{lane}.acme"):
        with pytest.raises(MessagingError):
            subjects.parse_subject(subject)


def test_lane_belongs_to_stored_messages_only():
    for subject in ("sdk.agent.a.b.=1.acme", "sdk.dead_letters.a.=1.acme"):
        with pytest.raises(MessagingError):
            subjects.parse_subject(subject)
