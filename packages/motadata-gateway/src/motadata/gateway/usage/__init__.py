"""What every call used and what it cost: prices, the usage log, reports and export."""

from motadata.gateway.usage._counts import merged_counts
from motadata.gateway.usage._export import export_csv, export_parquet
from motadata.gateway.usage._log import UsageLog
from motadata.gateway.usage._overrides import PriceOverrides
from motadata.gateway.usage._payloads import (
    usage_from_anthropic,
    usage_from_bedrock,
    usage_from_gemini,
    usage_from_openai,
)
from motadata.gateway.usage._policy import UsagePolicy
from motadata.gateway.usage._prices import (
    ModelPrices,
    PriceTable,
    Service,
    Tariff,
    TokenPrices,
    packaged_prices,
)
from motadata.gateway.usage._pricing import Pricing
from motadata.gateway.usage._reports import UsageReports, UsageSum


__all__ = [
    "ModelPrices",
    "PriceOverrides",
    "PriceTable",
    "Pricing",
    "Service",
    "Tariff",
    "TokenPrices",
    "UsageLog",
    "UsagePolicy",
    "UsageReports",
    "UsageSum",
    "export_csv",
    "export_parquet",
    "merged_counts",
    "packaged_prices",
    "usage_from_anthropic",
    "usage_from_bedrock",
    "usage_from_gemini",
    "usage_from_openai",
]
