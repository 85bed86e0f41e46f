"""Feedback over real HTTP, for two tenants; the database's part is shown where it lives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest

from motadata.core.models import (
    CommonCorrection,
    Correction,
    FeedbackInsights,
    FeedbackReceipt,
    Flag,
    Insight,
    Rating,
    Signal,
    Vote,
)


if TYPE_CHECKING:
    from conftest import ServeFakes, Service

CALL = "019a9c1e-7d6b-7cc3-8d50-0123456789ab"


@dataclass
class KeptFeedback:
    """Remembers who said what; each id is new once."""

    said: list[tuple[str | None, str, Signal, str]] = field(default_factory=list)
    periods: list[tuple[datetime | None, datetime | None]] = field(default_factory=list)

    async def record(
        self,
        call_id: str,
        signal: Signal,
        *,
        user: str = "",
        feedback_id: UUID | None = None,
        tenant_id: str | None = None,
    ) -> FeedbackReceipt:
        entry = (tenant_id, call_id, signal, user)
        known = entry in self.said
        self.said.append(entry)
        return FeedbackReceipt(feedback_id or UUID(int=7), "unchanged" if known else "created")

    async def insights(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        tenant_id: str | None = None,
    ) -> FeedbackInsights:
        self.periods.append((since, until))
        insight = Insight(
            prompt=f"{tenant_id}@1",
            model="m",
            approvals=1,
            approval=1.0,
            low=0.2,
            corrections=(CommonCorrection("So.", 2),),
            flags={"wrong": 1},
        )
        return FeedbackInsights((insight,), unlinked=3)


@pytest.fixture
def kept() -> KeptFeedback:
    return KeptFeedback()


@pytest.fixture
async def service(serve_fakes: ServeFakes, kept: KeptFeedback) -> AsyncIterator[Service]:
    async with serve_fakes(extra={"feedback": kept}) as running:
        yield running


@pytest.mark.parametrize(
    ("body", "signal"),
    [
        ({"kind": "rating", "stars": 4, "comment": "fine"}, Rating(4, "fine")),
        ({"kind": "vote", "useful": False}, Vote(useful=False)),
        ({"kind": "correction", "text": "Call them."}, Correction("Call them.")),
        ({"kind": "flag", "reason": "harmful"}, Flag("harmful")),
    ],
)
async def test_signal_is_recorded_for_the_tenant_of_the_key(
    service: Service, kept: KeptFeedback, body: dict[str, object], signal: Signal
):
    request = {"call_id": CALL, "signal": body, "user": "u-1"}

    answers = [
        await service.client.post("/v1/feedback", json=request, headers=service.headers(key))
        for key in ("acme-key", "globex-key", "acme-key")
    ]

    assert [answer.status_code for answer in answers] == [201, 201, 200]
    assert [answer.json()["outcome"] for answer in answers] == ["created", "created", "unchanged"]
    assert kept.said[:2] == [("acme", CALL, signal, "u-1"), ("globex", CALL, signal, "u-1")]


async def test_own_id_is_passed_on(service: Service):
    named = str(uuid4())
    request = {"call_id": CALL, "signal": {"kind": "vote", "useful": True}, "feedback_id": named}
    answer = await service.client.post("/v1/feedback", json=request, headers=service.headers())
    assert answer.json()["feedback_id"] == named


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"call_id": ""}, "call_id"),
        ({"signal": {"kind": "rating", "stars": 6}}, "signal"),
        ({"signal": {"kind": "vote", "useful": "secret words"}}, "signal"),
        ({"signal": {"kind": "correction", "text": " "}}, "signal"),
        ({"signal": {"kind": "flag", "reason": "ugly"}}, "signal"),
        ({"signal": {"kind": "poem"}}, "signal"),
        ({"signal": {"kind": "vote", "useful": True, "more": 1}}, "signal"),
        ({"user": "x" * 201}, "user"),
    ],
)
async def test_malformed_signal_names_its_field_and_not_its_value(
    service: Service, kept: KeptFeedback, changes: dict[str, object], place: str
):
    request = {"call_id": CALL, "signal": {"kind": "vote", "useful": True}} | changes

    answer = await service.client.post("/v1/feedback", json=request, headers=service.headers())

    assert answer.status_code == 422
    assert answer.json()["error"]["message"].startswith(place)
    assert "secret" not in answer.text
    assert kept.said == []


async def test_insights_are_those_of_the_tenant_and_the_period(
    service: Service, kept: KeptFeedback
):
    answer = await service.client.get(
        "/v1/feedback/insights",
        params={"since": "2026-11-01T00:00:00Z"},
        headers=service.headers("globex-key"),
    )

    body = answer.json()
    assert answer.status_code == 200
    assert body["insights"][0]["prompt"] == "globex@1"
    assert body["insights"][0]["corrections"] == [{"text": "So.", "count": 2}]
    assert (body["insights"][0]["flags"], body["unlinked"]) == ({"wrong": 1}, 3)
    since, until = kept.periods[0]
    assert since == datetime.fromisoformat("2026-11-01T00:00:00+00:00")
    assert until is None


async def test_moment_without_zone_is_refused(service: Service):
    answer = await service.client.get(
        "/v1/feedback/insights",
        params={"until": "2026-11-01T00:00:00"},
        headers=service.headers(),
    )
    assert answer.status_code == 422


async def test_feedback_needs_a_key(service: Service):
    assert (await service.client.get("/v1/feedback/insights")).status_code == 401
    assert (await service.client.post("/v1/feedback", json={})).status_code == 401


async def test_endpoints_are_absent_without_the_component(serve_fakes: ServeFakes):
    async with serve_fakes() as service:
        answer = await service.client.post("/v1/feedback", json={}, headers=service.headers())
    assert answer.status_code == 404
