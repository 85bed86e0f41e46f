"""The metrics that the SDK keeps, under the names and with the buckets of the conventions.

Sources, as of November 2026: https://opentelemetry.io/docs/specs/semconv/ for `gen_ai`, `db`,
`messaging` and `http`. What they have no name for begins with `motadata`.
"""

from __future__ import annotations

from typing import Final

from motadata.core.observability._metrics import counter, histogram


_MODEL_SECONDS: Final = (
    *(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64),
    *(1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
)
_TOKENS: Final = tuple(4**power for power in range(14))
_DATABASE_SECONDS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
_SECONDS: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75),
    *(1, 2.5, 5, 7.5, 10),
)

MODEL_DURATION: Final = histogram(
    "gen_ai.client.operation.duration",
    unit="s",
    boundaries=_MODEL_SECONDS,
    description="Time that a call of a model takes.",
)
TOKEN_USAGE: Final = histogram(
    "gen_ai.client.token.usage",
    unit="{token}",
    boundaries=_TOKENS,
    description="Tokens that a call of a model reads and writes.",
)
MODEL_COST: Final = counter(
    "motadata.gen_ai.cost_usd",
    unit="{USD}",
    description="What calls of models cost, in US dollars.",
)
DATABASE_DURATION: Final = histogram(
    "db.client.operation.duration",
    unit="s",
    boundaries=_DATABASE_SECONDS,
    description="Time that a statement or transaction takes.",
)
MESSAGE_DURATION: Final = histogram(
    "messaging.client.operation.duration",
    unit="s",
    boundaries=_SECONDS,
    description="Time that sending or receiving a message takes.",
)
PROCESS_DURATION: Final = histogram(
    "messaging.process.duration",
    unit="s",
    boundaries=_SECONDS,
    description="Time that the handler of a message takes.",
)
REQUEST_DURATION: Final = histogram(
    "http.server.request.duration",
    unit="s",
    boundaries=_SECONDS,
    description="Time that a request to the HTTP API takes.",
)
CACHE_LOOKUPS: Final = counter(
    "motadata.cache.lookups",
    unit="{lookup}",
    description="Keys looked up in a cache, by whether they were there.",
)
