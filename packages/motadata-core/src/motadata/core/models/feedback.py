"""What people say about a model's answers, and what that adds up to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

from motadata.core.models._record import Record


FlagReason = Literal["wrong", "incomplete", "outdated", "off_topic", "harmful", "private", "other"]
"""What is wrong with an answer, beyond its being useless to somebody."""


@dataclass(frozen=True, slots=True)
class Rating(Record):
    """One to five stars; four and five approve of the answer, one and two do not."""

    stars: int
    comment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote(Record):
    """Useful or not useful."""

    useful: bool
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Correction(Record):
    """What the answer should have been, whole; it disapproves of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Flag(Record):
    """The answer should be looked at; it disapproves of the answer."""

    reason: FlagReason
    comment: str = ""


Signal = Rating | Vote | Correction | Flag
"""One thing that somebody says about an answer."""


@dataclass(frozen=True, slots=True)
class FeedbackReceipt(Record):
    """What became of a signal.

    Attributes:
        feedback_id: Names it from now on.
        outcome: `updated` when the same person said something else before.
    """

    feedback_id: UUID
    outcome: Literal["created", "updated", "unchanged"]


@dataclass(frozen=True, slots=True)
class CommonCorrection(Record):
    """A correction that may have been given more than once.

    Attributes:
        text: As it was worded last.
        count: How often it was given, apart from case, blanks and punctuation at its ends.
    """

    text: str
    count: int


@dataclass(frozen=True, slots=True)
class Insight(Record):
    """How one version of a prompt fares with one model.

    A person judges a call once: whoever disapproves of it in any way does not approve of it in
    another. People without a name count as one.

    Attributes:
        prompt: Name and version, as the calls were attributed; empty when they were not.
        approvals: How many judged that the answer was good.
        rejections: How many judged that it was not.
        approval: Share of approvals among both; None when nobody judged.
        low: Lower end of the 95% interval of that share, after Wilson.
        high: Upper end.
        ratings: How many gave stars.
        mean_stars: Their mean; None when there are none.
        corrections: The most common ones.
        flags: How often each reason was given.
    """

    prompt: str
    model: str
    approvals: int = 0
    rejections: int = 0
    approval: float | None = None
    low: float = 0.0
    high: float = 1.0
    ratings: int = 0
    mean_stars: float | None = None
    corrections: tuple[CommonCorrection, ...] = ()
    flags: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FeedbackInsights(Record):
    """Feedback of a period, added up.

    Attributes:
        insights: Those with the most judgements first.
        unlinked: Signals whose call the usage log does not have, or not yet.
    """

    insights: tuple[Insight, ...]
    unlinked: int = 0
