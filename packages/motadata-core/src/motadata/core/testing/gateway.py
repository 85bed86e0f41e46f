"""The contract of a gateway as tests: subclass and give the fixture `gateway`.

    class TestMine(GatewayConformance):
        @pytest.fixture
        async def gateway(self) -> AsyncIterator[Gateway]:
            async with create_mine() as mine:
                yield mine

The gateway's default models must answer and embed.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator
from typing import ClassVar, cast

import pytest

from motadata.core.errors import (
    ConfigurationError,
    InvalidIdentifierError,
    TenantRequiredError,
    ValidationError,
)
from motadata.core.models import Completion, CompletionChunk, Message, Passage, ToolDefinition
from motadata.core.protocols import Gateway
from motadata.core.tenancy import tenant_scope


_PASSAGES = (
    Passage(1, "A VPN token is reset by the service desk.", title="VPN", heading="Tokens"),
    Passage(2, "Normal changes are approved by the board.", title="Changes"),
)
_QUESTION = (
    Message("system", "Answer from the passages."),
    Message("user", "Who resets a VPN token?", passages=_PASSAGES),
)
_TOOL = ToolDefinition("look_up", "Looks up a ticket.", {"type": "object", "properties": {}})


class GatewayConformance:
    """What every `Gateway` does.

    Attributes:
        caches: Whether equal requests of a tenant are answered from a response cache.
        unknown_model: A name that the gateway cannot serve.
    """

    caches: ClassVar[bool] = False
    unknown_model: ClassVar[str] = "nobody/no-such-model"

    @pytest.fixture
    def gateway(self) -> Gateway:
        """The gateway under test; given by the subclass."""
        raise NotImplementedError

    async def test_an_answer_has_text_model_reason_and_usage(self, gateway: Gateway) -> None:
        answer = await gateway.generate_async(_QUESTION, tenant_id="acme")
        assert isinstance(answer, Completion)
        assert answer.text
        assert answer.model
        assert answer.finish_reason == "stop"
        assert answer.usage.input_tokens > 0
        assert answer.usage.output_tokens > 0
        assert answer["text"] == answer.text

    async def test_a_string_is_one_turn_of_the_user(self, gateway: Gateway) -> None:
        answer = await gateway.generate_async("Who resets a VPN token?", tenant_id="acme")
        turn = [Message("user", "Who resets a VPN token?")]
        assert answer.text == (await gateway.generate_async(turn, tenant_id="acme")).text

    async def test_a_stream_adds_up_to_an_answer(self, gateway: Gateway) -> None:
        chunks = [chunk async for chunk in gateway.stream(_QUESTION, tenant_id="acme")]
        assert all(isinstance(chunk, CompletionChunk) for chunk in chunks)
        assert "".join(chunk.text for chunk in chunks)
        assert [chunk.finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
        assert chunks[-1].finish_reason == "stop"
        assert chunks[-1].usage is not None

    async def test_a_stream_can_be_closed_early(self, gateway: Gateway) -> None:
        stream = cast(
            "AsyncGenerator[CompletionChunk]", gateway.stream(_QUESTION, tenant_id="acme")
        )
        first = await anext(stream)
        await stream.aclose()
        assert isinstance(first, CompletionChunk)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)

    async def test_vectors_come_in_order_at_length_one(self, gateway: Gateway) -> None:
        texts = ["Reset a VPN token.", "The printer jams.", "Reset a VPN token."]
        result = await gateway.embed(texts, tenant_id="acme")
        assert len(result.vectors) == len(texts)
        assert len({len(vector) for vector in result.vectors}) == 1
        assert all(abs(math.hypot(*vector) - 1) < 1e-4 for vector in result.vectors)
        assert result.vectors[0] == result.vectors[2]
        assert result.vectors[0] != result.vectors[1]
        assert result.model

    async def test_related_texts_are_nearer_than_others(self, gateway: Gateway) -> None:
        texts = ["reset the VPN token", "the VPN token is reset", "the printer is out of paper"]
        one, related, other = (await gateway.embed(texts, tenant_id="acme")).vectors
        near = sum(a * b for a, b in zip(one, related, strict=True))
        far = sum(a * b for a, b in zip(one, other, strict=True))
        assert near > far

    async def test_no_texts_give_no_vectors(self, gateway: Gateway) -> None:
        assert (await gateway.embed([], tenant_id="acme")).vectors == ()

    async def test_the_tenant_of_the_scope_counts(self, gateway: Gateway) -> None:
        with tenant_scope("acme"):
            assert (await gateway.generate_async(_QUESTION)).text
            assert (await gateway.embed(["text"])).vectors
            assert [chunk async for chunk in gateway.stream(_QUESTION)]

    async def test_no_operation_without_a_tenant(self, gateway: Gateway) -> None:
        with pytest.raises(TenantRequiredError):
            await gateway.generate_async(_QUESTION)
        with pytest.raises(TenantRequiredError):
            await gateway.embed(["text"])
        with pytest.raises(TenantRequiredError):
            await anext(gateway.stream(_QUESTION))

    async def test_a_malformed_tenant_is_refused(self, gateway: Gateway) -> None:
        with pytest.raises(InvalidIdentifierError):
            await gateway.generate_async(_QUESTION, tenant_id="acme:1")
        with pytest.raises(InvalidIdentifierError):
            await gateway.embed(["text"], tenant_id="*")
        with pytest.raises(InvalidIdentifierError):
            await anext(gateway.stream(_QUESTION, tenant_id=""))

    async def test_a_request_that_cannot_be_right_is_refused(self, gateway: Gateway) -> None:
        for prompt in ("", "   ", [], [Message("user", "")]):
            with pytest.raises(ValidationError):
                await gateway.generate_async(prompt, tenant_id="acme")
            with pytest.raises(ValidationError):
                await anext(gateway.stream(prompt, tenant_id="acme"))

    async def test_parameters_out_of_range_are_refused(self, gateway: Gateway) -> None:
        with pytest.raises(ValidationError):
            await gateway.generate_async(_QUESTION, temperature=-1, tenant_id="acme")
        with pytest.raises(ValidationError):
            await gateway.generate_async(_QUESTION, temperature=math.nan, tenant_id="acme")
        with pytest.raises(ValidationError):
            await gateway.generate_async(_QUESTION, max_tokens=0, tenant_id="acme")
        with pytest.raises(ValidationError):
            await gateway.generate_async(_QUESTION, timeout=0, tenant_id="acme")
        with pytest.raises(ValidationError):
            await gateway.embed(["text"], timeout=-1, tenant_id="acme")

    async def test_an_empty_text_has_no_vector(self, gateway: Gateway) -> None:
        with pytest.raises(ValidationError):
            await gateway.embed(["text", " "], tenant_id="acme")
        with pytest.raises(ValidationError):
            await gateway.embed("a single text", tenant_id="acme")

    async def test_an_unknown_model_is_a_matter_of_configuration(self, gateway: Gateway) -> None:
        with pytest.raises(ConfigurationError):
            await gateway.generate_async(_QUESTION, model=self.unknown_model, tenant_id="acme")
        with pytest.raises(ConfigurationError):
            await gateway.embed(["text"], model=self.unknown_model, tenant_id="acme")
        with pytest.raises(ConfigurationError):
            await anext(gateway.stream(_QUESTION, model=self.unknown_model, tenant_id="acme"))

    async def test_tools_and_a_cache_policy_may_be_given(self, gateway: Gateway) -> None:
        answer = await gateway.generate_async(
            _QUESTION, tools=[_TOOL], cache="refresh", tenant_id="acme"
        )
        assert answer.text or answer.tool_calls

    async def test_equal_requests_are_cached_for_each_tenant_apart(self, gateway: Gateway) -> None:
        if not self.caches:
            pytest.skip("this gateway keeps no response cache")
        first = await gateway.generate_async(_QUESTION, tenant_id="acme")
        again = await gateway.generate_async(_QUESTION, tenant_id="acme")
        other = await gateway.generate_async(_QUESTION, tenant_id="globex")
        bypassed = await gateway.generate_async(_QUESTION, cache="bypass", tenant_id="acme")
        cached = [answer.cached for answer in (first, again, other, bypassed)]
        assert cached == [False, True, False, False]
        assert again.text == first.text

    async def test_calls_of_many_tenants_at_once_are_all_answered(self, gateway: Gateway) -> None:
        names = [f"tenant-{number}" for number in range(20)]
        answers = await asyncio.gather(
            *(gateway.generate_async(_QUESTION, tenant_id=name) for name in names)
        )
        assert all(answer.text for answer in answers)

    async def test_health_says_that_it_serves(self, gateway: Gateway) -> None:
        assert (await gateway.health()).status == "ok"
