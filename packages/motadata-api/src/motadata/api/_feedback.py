"""`/v1/feedback`: say something about an answer; see what it adds up to."""

from __future__ import annotations

from typing import Annotated, Literal, Self, cast
from uuid import UUID

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import AwareDatetime, Field, StringConstraints

from motadata.api._query import BEARER
from motadata.api._responses import PROBLEMS, json_response
from motadata.api.schemas import RequestBody, ResponseBody, Text
from motadata.core.models import Correction, Flag, FlagReason, Insight, Rating, Signal, Vote
from motadata.core.observability import current_trace_id
from motadata.core.platform import Platform
from motadata.core.protocols import FeedbackLog
from motadata.core.tenancy import resolve_tenant


_CREATED = 201
_Comment = Annotated[Text, StringConstraints(max_length=2_000)]


class RatingBody(RequestBody):
    """One to five stars."""

    kind: Literal["rating"]
    stars: Annotated[int, Field(ge=1, le=5, strict=True)]
    comment: _Comment = ""

    def signal(self) -> Signal:
        """Return it as it is recorded."""
        return Rating(self.stars, self.comment)


class VoteBody(RequestBody):
    """Useful or not useful."""

    kind: Literal["vote"]
    useful: Annotated[bool, Field(strict=True)]
    comment: _Comment = ""

    def signal(self) -> Signal:
        """Return it as it is recorded."""
        return Vote(useful=self.useful, comment=self.comment)


class CorrectionBody(RequestBody):
    """What the answer should have been, whole."""

    kind: Literal["correction"]
    text: Annotated[Text, StringConstraints(min_length=1, max_length=20_000, pattern=r"\S")]

    def signal(self) -> Signal:
        """Return it as it is recorded."""
        return Correction(self.text)


class FlagBody(RequestBody):
    """The answer should be looked at."""

    kind: Literal["flag"]
    reason: FlagReason
    comment: _Comment = ""

    def signal(self) -> Signal:
        """Return it as it is recorded."""
        return Flag(self.reason, self.comment)


class FeedbackRequest(RequestBody):
    """What somebody says about an answer.

    Attributes:
        call_id: Of the answer.
        user: Who says it: an opaque id. A second signal of its kind by the same user replaces the
            first.
        feedback_id: What makes a repeated request the same feedback; without it call, user and kind
            do.
    """

    call_id: UUID
    signal: Annotated[
        RatingBody | VoteBody | CorrectionBody | FlagBody, Field(discriminator="kind")
    ]
    user: Annotated[Text, StringConstraints(max_length=200)] = ""
    feedback_id: UUID | None = None


class FeedbackResponse(ResponseBody):
    """What became of it."""

    feedback_id: UUID
    outcome: Literal["created", "updated", "unchanged"]
    trace_id: str | None = None


class CommonCorrectionBody(ResponseBody):
    """A correction, and how often it was given."""

    text: str
    count: int


class InsightBody(ResponseBody):
    """How one version of a prompt fares with one model; `low` and `high` bound `approval`."""

    prompt: str
    model: str
    approvals: int
    rejections: int
    approval: float | None
    low: float
    high: float
    ratings: int
    mean_stars: float | None
    corrections: list[CommonCorrectionBody]
    flags: dict[str, int]

    @classmethod
    def of(cls, insight: Insight) -> Self:
        """Return an insight as it is sent."""
        return cls(**insight.to_dict())  # type: ignore[arg-type]  # checked by pydantic


class InsightsResponse(ResponseBody):
    """Those with the most judgements first, and how many signals belong to no known call."""

    insights: list[InsightBody]
    unlinked: int
    trace_id: str | None = None


def feedback_routes(platform: Platform) -> APIRouter:
    """Return the endpoints of feedback."""
    router = APIRouter(prefix="/v1", tags=["feedback"], dependencies=[BEARER])

    def feedback() -> FeedbackLog:
        return cast("FeedbackLog", platform.component("feedback"))

    @router.post(
        "/feedback",
        response_model=FeedbackResponse,
        status_code=_CREATED,
        responses={
            **PROBLEMS,
            200: {"model": FeedbackResponse, "description": "It was said before."},
        },
        summary="Rate, correct or flag an answer",
    )
    async def record(request: FeedbackRequest) -> Response:
        receipt = await feedback().record(
            str(request.call_id),
            request.signal.signal(),
            user=request.user,
            feedback_id=request.feedback_id,
            tenant_id=resolve_tenant(None),
        )
        body = FeedbackResponse(
            feedback_id=receipt.feedback_id, outcome=receipt.outcome, trace_id=current_trace_id()
        )
        return json_response(body, status=_CREATED if receipt.outcome == "created" else 200)

    @router.get(
        "/feedback/insights",
        response_model=InsightsResponse,
        responses=PROBLEMS,
        summary="See how prompts and models fare",
    )
    async def insights(
        since: AwareDatetime | None = None, until: AwareDatetime | None = None
    ) -> Response:
        found = await feedback().insights(since=since, until=until, tenant_id=resolve_tenant(None))
        body = InsightsResponse(
            insights=[InsightBody.of(insight) for insight in found.insights],
            unlinked=found.unlinked,
            trace_id=current_trace_id(),
        )
        return json_response(body)

    return router
