"""Write the gateway's price table from the one that litellm brings, without importing litellm.

    python tools/build_price_table.py

Kept are the models that the gateway can call, under `provider/model`, with the prices that it can
charge: US dollars a million tokens, or one search or request, as exact decimals. Run it after
litellm was renewed, and read the difference before it is committed: it is what tenants are charged.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Final


SOURCE: Final = "model_prices_and_context_window_backup.json"
TARGET: Final = (
    Path(__file__).resolve().parent.parent
    / "packages/motadata-gateway/src/motadata/gateway/usage/prices.json"
)
MODES: Final = frozenset({"chat", "responses", "completion", "embedding"})
SERVICES: Final = {"": "", "batches": "batch", "flex": "flex", "priority": "priority"}
FIELDS: Final = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cached": "cache_read_input_token_cost",
    "written": "cache_creation_input_token_cost",
    "long_written": "cache_creation_input_token_cost_above_1hr",
    "reasoning": "output_cost_per_reasoning_token",
}
THRESHOLDS: Final = (100, 128, 200, 272, 512)
# Litellm's names of one provider's departments, and ours of the provider.
PROVIDERS: Final = {
    "bedrock_converse": "bedrock",
    "cohere_chat": "cohere",
    "text-completion-openai": "openai",
    "text-completion-codestral": "codestral",
    "azure_text": "azure",
    "fireworks_ai-embedding-models": "fireworks_ai",
}
# What runs in the process itself.
OWN: Final = {
    name: {"input": "0", "output": "0"}
    for name in ("motadata/extractive", "motadata/all-MiniLM-L6-v2")
}


def main() -> None:
    """Read litellm's prices and write ours."""
    listed = json.loads(_source().read_text(), parse_float=Decimal)
    # Those that are listed with and without their provider count as they are listed with it.
    listed = dict(sorted(listed.items(), key=lambda item: "/" in item[0]))
    models = dict(sorted({**dict(_models(listed)), **OWN}.items()))
    body = {
        "source": f"litellm {version('litellm')} (MIT), {SOURCE}",
        "unit": "US dollars per million tokens; searches and requests each",
        "models": models,
    }
    lines = [
        f"  {json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in models.items()
    ]
    head = json.dumps(body | {"models": {}}, indent=1)
    TARGET.write_text(head.replace("{}", "{\n" + ",\n".join(lines) + "\n }") + "\n")
    print(f"{len(models)} models, {TARGET.stat().st_size:,} bytes")


def _source() -> Path:
    found = importlib.util.find_spec("litellm")
    if found is None or found.origin is None:
        message = "litellm is not installed."
        raise SystemExit(message)
    return Path(found.origin).parent / SOURCE


def _models(listed: Mapping[str, Mapping[str, object]]) -> Iterator[tuple[str, dict[str, object]]]:
    for name, entry in listed.items():
        if name == "sample_spec" or entry.get("mode") not in MODES:
            continue
        prices = _prices(entry)
        if prices:
            yield _full_name(name, str(entry.get("litellm_provider"))), prices


def _full_name(name: str, provider: str) -> str:
    provider = PROVIDERS.get(provider, provider)
    if provider.startswith("vertex_ai"):
        provider = "vertex_ai"
    return name if name.startswith(f"{provider}/") else f"{provider}/{name}"


def _prices(entry: Mapping[str, object]) -> dict[str, object]:
    """Return the standard prices, those of other services, and those of long inputs."""
    prices: dict[str, object] = {}
    for suffix, service in SERVICES.items():
        found = _service(entry, f"_{suffix}" if suffix else "")
        if service and found:
            prices[service] = found
        elif found:
            prices.update(found)
    if not {"input", "output"} & set(prices):
        return {}
    search = entry.get("search_context_cost_per_query")
    if isinstance(search, Mapping) and "search_context_size_medium" in search:
        prices["search"] = _text(search["search_context_size_medium"])
    if "input_cost_per_request" in entry:
        prices["request"] = _text(entry["input_cost_per_request"])
    return prices


def _service(entry: Mapping[str, object], suffix: str) -> dict[str, object]:
    found: dict[str, object] = _fields(entry, "", suffix)
    above = {
        str(thousands * 1000): tier
        for thousands in THRESHOLDS
        if (tier := _fields(entry, f"_above_{thousands}k_tokens", suffix))
    }
    if found and above:
        found["above"] = above
    return found


def _fields(entry: Mapping[str, object], tier: str, suffix: str) -> dict[str, object]:
    return {
        ours: _text(_million(entry[theirs + tier + suffix]))
        for ours, theirs in FIELDS.items()
        if entry.get(theirs + tier + suffix) is not None
    }


def _million(price: object) -> Decimal:
    return Decimal(str(price)) * 1_000_000


def _text(price: object) -> str:
    return f"{Decimal(str(price)).normalize():f}"


if __name__ == "__main__":
    main()
