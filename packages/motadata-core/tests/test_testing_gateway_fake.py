"""The fake gateway keeps the contract, and can be told to fail."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motadata.core.errors import MissingExtraError, ProviderError
from motadata.core.models import Message, Passage, ToolDefinition
from motadata.core.protocols import Gateway
from motadata.core.testing.fake_gateway import DIMENSIONS, UNKNOWN, FakeGateway, word_vector
from motadata.core.testing.gateway import GatewayConformance


class TestFakeGateway(GatewayConformance):
    @pytest.fixture
    def gateway(self) -> Gateway:
        return FakeGateway()


async def test_it_quotes_the_passage_and_marks_it():
    passages = (Passage(4, "Printers print. A token is reset by the desk."), Passage(5, "Nothing."))
    question = Message("user", "Who resets a token?", passages=passages)

    answer = await FakeGateway().generate_async([question], tenant_id="acme")

    assert answer.text == "A token is reset by the desk. [4]"


async def test_it_does_not_know_what_no_passage_says():
    question = Message("user", "Who bakes bread?", passages=(Passage(1, "Printers print."),))

    assert (await FakeGateway().generate_async([question], tenant_id="acme")).text == UNKNOWN


async def test_it_calls_a_tool_that_the_message_names():
    tool = ToolDefinition("look_up", "")

    answer = await FakeGateway().generate_async("please look_up", tools=[tool], tenant_id="acme")

    assert answer.finish_reason == "tool_calls"
    assert [call.name for call in answer.tool_calls] == ["look_up"]


async def test_max_tokens_cuts_and_says_so():
    answer = await FakeGateway().generate_async("one two three", max_tokens=3, tenant_id="acme")

    assert answer.text == "You said: one"
    assert answer.finish_reason == "length"


async def test_it_fails_once_when_told_to():
    gateway = FakeGateway()
    gateway.fail_next(ProviderError("down", retryable=True))

    with pytest.raises(ProviderError, match="down"):
        await gateway.embed(["text"], tenant_id="acme")
    assert (await gateway.embed(["text"], tenant_id="acme")).vectors


async def test_it_can_be_without_an_embedding_model():
    gateway = FakeGateway(embeddings=False)

    with pytest.raises(MissingExtraError, match=r"motadata-gateway\[offline\]"):
        await gateway.embed(["text"], tenant_id="acme")
    assert (await gateway.health()).status == "degraded"


async def test_calls_are_recorded_with_their_tenant():
    gateway = FakeGateway()

    await gateway.generate_async("hello", tenant_id="acme")
    await gateway.embed(["a", "b"], tenant_id="globex")

    assert [(call.method, call.tenant_id) for call in gateway.calls] == [
        ("generate", "acme"),
        ("embed", "globex"),
    ]
    assert gateway.calls[0].messages == (Message("user", "hello"),)
    assert gateway.calls[1].texts == ("a", "b")


@given(st.text(min_size=1).filter(str.strip))
def test_every_text_has_a_vector_of_length_one(text: str):
    vector = word_vector(text)

    assert len(vector) == DIMENSIONS
    assert sum(value * value for value in vector) == pytest.approx(1.0)
