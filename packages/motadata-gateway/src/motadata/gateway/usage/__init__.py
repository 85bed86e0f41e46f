"""What every call used and what it cost: prices, the usage log, reports and export."""

from motadata.gateway.usage._payloads import (
    merged_counts,
    usage_from_anthropic,
    usage_from_bedrock,
    usage_from_gemini,
    usage_from_openai,
)


__all__ = [
    "merged_counts",
    "usage_from_anthropic",
    "usage_from_bedrock",
    "usage_from_gemini",
    "usage_from_openai",
]
