"""What a platform's environment asks for is what governs its calls."""

from __future__ import annotations

import json

import pytest

from motadata.core.errors import ConfigurationError, GuardrailError, RateLimitError
from motadata.core.models import Message, Passage
from motadata.core.platform import Platform
from motadata.gateway.component import open_gateway


async def test_limits_and_routes_come_from_the_environment() -> None:
    environment = {
        "MOTADATA_GATEWAY_DEFAULT_MODEL": "chat",
        "MOTADATA_GATEWAY_LIMITS": json.dumps({"requests": 1, "request_burst": 1}),
        "MOTADATA_GATEWAY_ROUTES": json.dumps(
            {"chat": {"targets": ["motadata/extractive", {"model": "motadata/other", "weight": 2}]}}
        ),
    }
    async with open_gateway(Platform([], environment)) as gateway:
        answer = await gateway.generate_async("Hi", tenant_id="acme")
        with pytest.raises(RateLimitError):
            await gateway.generate_async("Ho", tenant_id="acme")
    assert answer.fallback_from is None


@pytest.mark.parametrize(("instances", "seconds"), [("1", 15.0), ("4", 60.0)])
async def test_instances_that_never_reached_their_server_divide_a_limit(
    instances: str, seconds: float
) -> None:
    environment = {
        "MOTADATA_GATEWAY_LIMITS": json.dumps({"requests": 4, "request_burst": 4}),
        "MOTADATA_GATEWAY_REDIS_URL": "redis://127.0.0.1:1/0",
        "MOTADATA_GATEWAY_EXPECTED_INSTANCES": instances,
    }
    async with open_gateway(Platform([], environment)) as gateway:
        with pytest.raises(RateLimitError) as raised:
            await gateway.generate_async("Hi", timeout=1, tenant_id="acme")

    assert raised.value.retry_after == pytest.approx(seconds, rel=0.1)


async def test_guardrails_come_from_the_environment() -> None:
    guarded = {"personal_data": "mask", "secrets": "refuse", "packs": ["security", "itil"]}
    environment = {"MOTADATA_GATEWAY_GUARDRAILS": json.dumps(guarded)}
    passage = Passage(1, "Reset tokens are handled by anna@acme.example at the service desk.")
    question = Message("user", "Who handles reset tokens?", passages=(passage,))

    async with open_gateway(Platform([], environment)) as gateway:
        answer = await gateway.generate_async([question], tenant_id="acme")
        with pytest.raises(GuardrailError, match="secret"):
            await gateway.generate_async("Use AKIAIOSFODNN7EXAMPLE", tenant_id="acme")

    assert "[email]" in answer.text
    assert "anna@" not in answer.text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LIMITS", '{"requests": 0}'),
        ("EXPECTED_INSTANCES", "0"),
        ("ROUTES", '{"chat": {"targets": []}}'),
        ("BUDGETS", '[{"name": "month"}]'),
        ("KEY_LIMITS", '{"openai": {"rate": 5}}'),
        ("GUARDRAILS", '{"secrets": "explode"}'),
        ("GUARDRAILS", '{"packs": ["no-such-pack"]}'),
        ("GUARDRAILS", '{"personal_date": "mask"}'),
    ],
)
async def test_setting_that_does_not_fit_is_refused(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError):
        async with open_gateway(Platform([], {f"MOTADATA_GATEWAY_{name}": value})):
            pass
