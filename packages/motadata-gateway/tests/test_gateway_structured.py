"""Answers as objects, against a real server: held to a schema, checked, repaired."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from pydantic import ValidationError as ShapeError

from motadata.core.errors import (
    ContentPolicyError,
    OutputFormatError,
    ProviderError,
    ValidationError,
)
from motadata.core.models import Message
from motadata.core.testing.openai_server import OpenAIServer, Reply
from motadata.gateway import ChatOptions, LLMGateway, create_gateway
from motadata.gateway._schemas import response_format, schema_of
from motadata.gateway._structured import parsed


class Step(BaseModel):
    title: str
    minutes: int = Field(ge=0)


class Triage(BaseModel):
    """How bad it is."""

    impact: Literal["low", "high"]
    urgency: int = Field(ge=1, le=3)
    steps: list[Step] = []


GOOD = '{"impact": "high", "urgency": 2, "steps": [{"title": "call", "minutes": 5}]}'


@pytest.fixture
async def gateway(openai_server: OpenAIServer) -> AsyncIterator[LLMGateway]:
    async with create_gateway(
        api_keys={"openai": "sk-test"},
        base_urls={"openai": openai_server.url},
        default_model="openai/gpt-4o-mini",
    ) as made:
        yield made


async def test_answer_comes_as_an_object(gateway: LLMGateway, openai_server: OpenAIServer) -> None:
    openai_server.reply(Reply(text=GOOD))

    result = await gateway.generate_structured("It burns", Triage, tenant_id="acme")

    assert result.value == Triage(impact="high", urgency=2, steps=[Step(title="call", minutes=5)])
    assert result.attempts == 1
    sent = openai_server.requests[0].body["response_format"]
    assert sent == response_format(schema_of(Triage))


async def test_options_of_the_conversation_are_kept_to(
    gateway: LLMGateway, openai_server: OpenAIServer
) -> None:
    openai_server.reply(Reply(text="no JSON"), Reply(text=GOOD))

    await gateway.generate_structured(
        "It burns", Triage, options=ChatOptions(seed=7, stop=("END",)), tenant_id="acme"
    )

    for request in openai_server.requests:
        assert (request.body["seed"], request.body["stop"]) == (7, ["END"])
        assert request.body["response_format"] == response_format(schema_of(Triage))


async def test_answer_that_does_not_fit_is_asked_for_again_with_what_was_wrong(
    gateway: LLMGateway, openai_server: OpenAIServer
) -> None:
    openai_server.reply(Reply(text='{"impact": "medium", "urgency": 2}'), Reply(text=GOOD))

    result = await gateway.generate_structured("It burns", Triage, tenant_id="acme")

    assert result.attempts == 2
    messages = openai_server.requests[1].body["messages"]
    assert isinstance(messages, list)
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert "impact: Input should be 'low' or 'high'" in messages[-1]["content"]


async def test_answer_that_never_fits_is_a_typed_error_without_its_words(
    gateway: LLMGateway, openai_server: OpenAIServer
) -> None:
    openai_server.always(Reply(text='{"impact": "secret-word", "urgency": 9}'))

    with pytest.raises(OutputFormatError, match="urgency") as raised:
        await gateway.generate_structured("x", Triage, most_attempts=2, tenant_id="acme")

    assert "secret-word" not in str(raised.value)
    assert len(openai_server.requests) == 2


async def test_provider_that_refuses_schemas_is_asked_in_words(
    gateway: LLMGateway, openai_server: OpenAIServer
) -> None:
    openai_server.reply(
        Reply(text="response_format is not supported", status=400), Reply(text=GOOD)
    )

    result = await gateway.generate_structured("It burns", Triage, tenant_id="acme")

    assert result.value.urgency == 2
    body = openai_server.requests[1].body
    assert "response_format" not in body
    assert '"urgency"' in json.dumps(body["messages"]).replace('\\"', '"')


async def test_answer_that_was_cut_off_is_not_repaired(
    gateway: LLMGateway, openai_server: OpenAIServer
) -> None:
    openai_server.reply(Reply(text='{"impact": "hi', finish_reason="length"))

    with pytest.raises(ProviderError, match="max_tokens"):
        await gateway.generate_structured("x", Triage, tenant_id="acme")

    assert len(openai_server.requests) == 1


async def test_refusal_is_a_refusal(gateway: LLMGateway, openai_server: OpenAIServer) -> None:
    openai_server.reply(Reply(text="", finish_reason="content_filter"))

    with pytest.raises(ContentPolicyError):
        await gateway.generate_structured("x", Triage, tenant_id="acme")


async def test_all_attempts_share_one_time_limit(
    gateway: LLMGateway, openai_server: OpenAIServer
) -> None:
    openai_server.always(Reply(text="no JSON", delay=0.2))

    with pytest.raises(ProviderError, match=r"within 0\.5 s"):
        await gateway.generate_structured(
            "x", Triage, most_attempts=100, timeout=0.5, tenant_id="acme"
        )


async def test_number_of_attempts_must_be_positive(gateway: LLMGateway) -> None:
    for attempts in (0, 1.5, "2"):
        with pytest.raises(ValidationError, match="most_attempts"):
            await gateway.generate_structured(
                "x",
                Triage,
                most_attempts=attempts,  # type: ignore[arg-type]  # what callers pass all the same
                tenant_id="acme",
            )
    with pytest.raises(ValidationError, match="pydantic"):
        await gateway.generate_structured("x", int, tenant_id="acme")  # type: ignore[type-var]  # as above


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"```json\n{GOOD}\n```",
        f"Here it is:\n\n{GOOD}\n\nAnything else?",
        f"```\n{GOOD}\n```\nas you asked",
        f"[note] see [1]: {GOOD}",
    ],
    ids=["bare", "fenced", "prose", "fenced without a name", "bracket before"],
)
def test_json_is_found_where_models_put_it(text: str) -> None:
    assert parsed(text, Triage).urgency == 2


@given(st.text())
def test_no_text_is_taken_for_an_answer_that_it_is_not(text: str) -> None:
    try:
        value = parsed(text, Triage)
    except ShapeError:
        return
    assert value.impact in ("low", "high")


def test_schema_is_closed_and_strict() -> None:
    schema = schema_of(Triage)

    assert schema["required"] == ["impact", "urgency", "steps"]
    assert schema["additionalProperties"] is False
    assert response_format(schema)["json_schema"]["strict"] is True  # type: ignore[index]  # its shape is what is tested


def test_schema_with_free_keys_is_not_called_strict() -> None:
    class Free(BaseModel):
        labels: dict[str, str]

    described = response_format(schema_of(Free))["json_schema"]

    assert described["strict"] is False  # type: ignore[index]  # as above


async def test_tokens_are_counted_for_prompts_and_conversations(gateway: LLMGateway) -> None:
    short = await gateway.count_tokens("Reset the VPN token.")
    long = await gateway.count_tokens([Message("user", "Reset the VPN token. " * 2_000)])

    assert 4 < short < 20
    assert 8_000 < long < 14_000
