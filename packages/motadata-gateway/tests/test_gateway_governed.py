"""What a platform's environment asks for is what governs its calls."""

from __future__ import annotations

import json

import pytest

from motadata.core.errors import ConfigurationError, RateLimitError
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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LIMITS", '{"requests": 0}'),
        ("ROUTES", '{"chat": {"targets": []}}'),
        ("BUDGETS", '[{"name": "month"}]'),
        ("KEY_LIMITS", '{"openai": {"rate": 5}}'),
    ],
)
async def test_setting_that_does_not_fit_is_refused(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError):
        async with open_gateway(Platform([], {f"MOTADATA_GATEWAY_{name}": value})):
            pass
