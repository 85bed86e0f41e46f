"""One call on its way through the gateway, and the signature of the steps that it passes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Generic, Protocol, TypeVar

from motadata.core.errors import ValidationError
from motadata.core.models import Completion, CompletionChunk, Embeddings, Usage
from motadata.core.protocols import Cache, CachePolicy
from motadata.gateway._provider import Provider
from motadata.gateway._requests import ChatRequest, EmbeddingRequest
from motadata.gateway._routing import Routes


Request = TypeVar("Request")
Result = TypeVar("Result")

Emit = Callable[[CompletionChunk], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Attribution:
    """On whose behalf a call is made, for the bill and for evaluation.

    Attributes:
        user: Who of the tenant; an opaque id of the platform, never a name or an address.
        feature: Which part of the product, such as `incident-summary`.
        prompt: Name and version of the prompt template, such as `summary@3`.

    Raises:
        ValidationError: One of them is no text.
    """

    user: str = ""
    feature: str = ""
    prompt: str = ""

    def __post_init__(self) -> None:
        """Refuse what is no text: it would fail only where the call, paid by then, is recorded."""
        for name in ("user", "feature", "prompt"):
            value: object = getattr(self, name)
            if not isinstance(value, str):
                message = f"The {name} of an attribution is a {type(value).__name__}."
                raise ValidationError(message, remedy=f"Pass {name}=str(…).")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a guardrail found: the rule that spoke, and what was done. It holds no text of anybody.

    Attributes:
        rule: Name of the rule, such as `pii.email`.
        action: `flagged`, `masked`, `tokenised` or `refused`.
        stage: `input` or `output`.
    """

    rule: str
    action: str
    stage: str


@dataclass(slots=True)
class CallNotes:
    """What happened to a call on its way; every step may add to it, the usage log reads it last.

    Attributes:
        call_id: Names the call; empty when nothing records it.
        provider: Who answered, or was asked last.
        model: The full name of the model that answered, or was asked last.
        attempts: Requests that were sent upstream for it.
        lost: Those of them whose answer never came whole, though the provider may charge for it.
        cached: Whether the response cache answered: `exact`, `semantic`, or empty.
        shared: Whether an equal call under way answered.
        fallback_from: The model that was asked, when another one answered.
        first_token: Seconds to the first part of a streamed answer.
        spent: What the provider charged this call for; None when it charged another, or nobody.
        saved_usd: What the answer would have cost, when it was cached or shared.
        price_version: The state of the prices that the cost was worked out with.
        verdicts: What guardrails found.
        kept: Vectors by text that came before another text of the call failed.
        digested: The request that was digested last, and its digest.
        estimated: Who estimated last what a request will use, the request, and the estimate.
    """

    call_id: str = ""
    provider: str = ""
    model: str = ""
    attempts: int = 0
    lost: int = 0
    cached: str = ""
    shared: bool = False
    fallback_from: str | None = None
    first_token: float | None = None
    spent: Usage | None = None
    saved_usd: Decimal | None = None
    price_version: str = ""
    verdicts: list[Verdict] = field(default_factory=list)
    kept: dict[str, tuple[float, ...]] = field(default_factory=dict)
    digested: tuple[object, str] | None = None
    estimated: tuple[object, object, Usage] | None = None


Price = Callable[[CallNotes, Usage], Usage]
"""Adds what the model of the notes charges to a usage, and notes the version of the prices."""


@dataclass(slots=True, eq=False)
class Call(Generic[Request]):
    """A request with everything that the steps need to know about it.

    Nobody changes one that was passed to him or by him: who wants another passes on a copy. It is
    not frozen, since each call makes several, and a frozen one costs five times as much to make.

    Attributes:
        request: What the provider is asked.
        provider: Who serves the model; a fallback replaces both.
        timeout: Seconds for the answer; of a streamed one, for each part of it.
        tenant_id: As the caller gave it; within the steps behind the first, the tenant itself.
        cache: The response cache; None when there is none.
        cache_policy: What the caller wants of it.
        emit: Takes the parts of a streamed answer; None when only the whole is wanted.
        attribution: On whose behalf it is made.
        policy: Version of the guardrail policy, a part of the response cache's key.
        notes: What happened so far; one object for the whole call.
        routes: Finds the provider of another model.
    """

    request: Request
    provider: Provider
    timeout: float
    tenant_id: str | None
    cache: Cache | None
    cache_policy: CachePolicy
    emit: Emit | None = None
    attribution: Attribution = Attribution()
    policy: str = ""
    price: Price | None = None
    notes: CallNotes = field(default_factory=CallNotes)
    routes: Routes = field(default_factory=lambda: Routes(()))

    def copied(self) -> Call[Request]:
        """Return a copy to be changed before it is passed on; a third of the cost of `replace`."""
        return Call(
            self.request,
            self.provider,
            self.timeout,
            self.tenant_id,
            self.cache,
            self.cache_policy,
            self.emit,
            self.attribution,
            self.policy,
            self.price,
            self.notes,
            self.routes,
        )


Proceed = Callable[[Call[Request]], Awaitable[Result]]
"""What is left of the call: the steps behind the present one."""

Step = Callable[[Call[Request], Proceed[Request, Result]], Awaitable[Result]]
"""Does its work around `await proceed(call)`: before it, after it, or instead of it."""

ChatStep = Step[ChatRequest, Completion]
EmbeddingStep = Step[EmbeddingRequest, Embeddings]


class CallPart(Protocol):
    """A part of the gateway that governs calls: one step of each kind, around the same state.

    A part that is an async context manager as well is entered and left with the gateway.
    """

    def chat(
        self, call: Call[ChatRequest], proceed: Proceed[ChatRequest, Completion]
    ) -> Awaitable[Completion]:
        """Pass a conversation on."""
        ...

    def embedding(
        self, call: Call[EmbeddingRequest], proceed: Proceed[EmbeddingRequest, Embeddings]
    ) -> Awaitable[Embeddings]:
        """Pass texts to embed on."""
        ...


def chained(steps: Sequence[Step[Request, Result]]) -> Callable[[Call[Request]], Awaitable[Result]]:
    """Return the steps as one function, the first outermost; it is built once, not per call."""
    proceed: Proceed[Request, Result] = _nothing_left
    for step in reversed(steps):
        proceed = _before(step, proceed)
    return proceed


def _before(
    step: Step[Request, Result], proceed: Proceed[Request, Result]
) -> Proceed[Request, Result]:
    def passed(call: Call[Request]) -> Awaitable[Result]:
        return step(call, proceed)

    return passed


async def _nothing_left(_call: Call[Request]) -> Result:
    message = "the last step must answer the call itself"
    raise AssertionError(message)
