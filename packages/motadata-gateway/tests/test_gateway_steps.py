from __future__ import annotations

from types import TracebackType
from typing import Self

from motadata.core.models import Completion, Embeddings, Health
from motadata.gateway import (
    Attribution,
    Call,
    ChatRequest,
    ChatStep,
    EmbeddingRequest,
    EmbeddingStep,
    Governance,
    Proceed,
    create_gateway,
)


class Witness:
    """A part that writes down when it is entered, passed and left."""

    def __init__(self, name: str, seen: list[str]) -> None:
        self._name = name
        self._seen = seen

    async def chat(
        self, call: Call[ChatRequest], proceed: Proceed[ChatRequest, Completion]
    ) -> Completion:
        self._seen.append(f"{self._name} for {call.tenant_id}, {call.attribution.feature}")
        return await proceed(call)

    async def embedding(
        self, call: Call[EmbeddingRequest], proceed: Proceed[EmbeddingRequest, Embeddings]
    ) -> Embeddings:
        self._seen.append(f"{self._name} embeds for {call.tenant_id}")
        return await proceed(call)

    async def __aenter__(self) -> Self:
        self._seen.append(f"{self._name} entered")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._seen.append(f"{self._name} left")


async def test_parts_are_entered_passed_in_their_order_and_left() -> None:
    seen: list[str] = []
    governance = Governance(limits=Witness("limits", seen), usage=Witness("usage", seen))

    async with create_gateway(governance=governance) as gateway:
        await gateway.generate_async(
            "Hello", attribution=Attribution(feature="greeting"), tenant_id="acme"
        )

    assert seen == [
        "usage entered",
        "limits entered",
        "usage for acme, greeting",
        "limits for acme, greeting",
        "limits left",
        "usage left",
    ]


async def test_platform_inserts_a_step_of_its_own() -> None:
    async def shouted(
        call: Call[ChatRequest], proceed: Proceed[ChatRequest, Completion]
    ) -> Completion:
        answer = await proceed(call)
        return Completion(answer.text.upper(), answer.model)

    def arrange(steps: tuple[ChatStep, ...]) -> tuple[ChatStep, ...]:
        return (*steps[:-1], shouted, steps[-1])

    async with create_gateway(arrange=arrange) as gateway:
        answer = await gateway.generate_async("Hello", tenant_id="acme")

    assert answer.text == "I DON'T KNOW."


async def test_platform_leaves_a_step_out() -> None:
    def arrange(steps: tuple[ChatStep, ...]) -> tuple[ChatStep, ...]:
        return tuple(step for step in steps if step.__name__ != "validated_chat")

    async with create_gateway(arrange=arrange) as gateway:
        answer = await gateway.generate_async("Hello", timeout=100_000, tenant_id="acme")

    assert answer.finish_reason == "stop"


class Unwell(Witness):
    """A part that serves less than it could."""

    async def health(self) -> Health:
        return Health("degraded", detail="Rows wait on disk.")


async def test_part_that_is_unwell_makes_the_gateway_degraded() -> None:
    async with create_gateway(governance=Governance(usage=Witness("usage", []))) as gateway:
        well = await gateway.health()
    async with create_gateway(governance=Governance(usage=Unwell("usage", []))) as gateway:
        unwell = await gateway.health()

    assert well.status == "ok"
    assert (unwell.status, "Rows wait on disk." in unwell.detail) == ("degraded", True)


async def test_platform_replaces_a_step_of_embed() -> None:
    async def embedded_at_home(
        call: Call[EmbeddingRequest], _proceed: Proceed[EmbeddingRequest, Embeddings]
    ) -> Embeddings:
        vectors = tuple((float(len(text)),) for text in call.request.texts)
        return Embeddings(vectors, call.request.model)

    def arrange(steps: tuple[EmbeddingStep, ...]) -> tuple[EmbeddingStep, ...]:
        return (*steps[:-1], embedded_at_home)

    async with create_gateway(arrange_embedding=arrange) as gateway:
        result = await gateway.embed(["a", "bbb"], tenant_id="acme")

    assert result.vectors == ((1.0,), (3.0,))
