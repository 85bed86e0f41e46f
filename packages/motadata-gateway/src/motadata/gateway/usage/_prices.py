"""What models cost: a table of prices as data, and the exact price of a usage.

Prices are decimals from end to end, so that a bill adds up. The table that comes with the package
is written by `tools/build_price_table.py`; a platform can read one of its own, and a tenant's own
prices stand above either.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self

import orjson
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    model_validator,
)
from pydantic import ValidationError as ShapeError

from motadata.core.errors import ConfigurationError
from motadata.core.models import Usage


if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Service = Literal["standard", "batch", "flex", "priority"]
Price = Annotated[Decimal, Field(ge=0, max_digits=20, allow_inf_nan=False)]

_PER: Final = -6
_LONGEST_SHOWN: Final = 80
_REMEDY: Final = "Pass US dollars a million tokens as decimals of 0 or more; see `ModelPrices`."
_FIELDS: Final = ("input", "output", "cached", "written", "long_written")
_DATED: Final = re.compile(r"[-@](?:\d{4}-\d{2}-\d{2}|\d{8}|latest|default)$")
_REGION: Final = re.compile(r"^bedrock/(?:us|eu|apac|au|jp|us-gov|global)\.")
_FINE_TUNED: Final = re.compile(r"^(openai/ft:[^:]+):.*$")


class TokenPrices(BaseModel):
    """US dollars a million tokens; what is None costs what it is a part of.

    Attributes:
        input: Tokens sent.
        output: Tokens received.
        cached: Tokens read from the provider's prompt cache; None means like `input`.
        written: Tokens written to it; None means like `input`.
        long_written: Tokens written to it for an hour; None means like `written`.
        reasoning: Tokens thought; None means like `output`.
        above: Prices of the whole call when it sends more tokens than the key.

    Raises:
        ConfigurationError: A price is no decimal of 0 or more, or has another name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: Price | None = None
    output: Price | None = None
    cached: Price | None = None
    written: Price | None = None
    long_written: Price | None = None
    reasoning: Price | None = None
    above: Mapping[Annotated[int, Field(gt=0)], TokenPrices] = Field(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _refuse(cls, given: object, validate: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return validate(given)
        except ShapeError as error:
            wrong = sorted({_named(found) for found in error.errors()})
            message = f"Not understood as prices: {', '.join(wrong)}."
            raise ConfigurationError(message, remedy=_REMEDY) from error


class ModelPrices(TokenPrices):
    """What a model costs, under the provider's usual terms and under its others.

    Attributes:
        batch: Prices of calls that the provider answers when it likes.
        flex: Prices of calls that may wait.
        priority: Prices of calls that must not.
        search: US dollars a web search.
        request: US dollars a call.

    Raises:
        ConfigurationError: A price is no decimal of 0 or more, or has another name.
    """

    batch: TokenPrices | None = None
    flex: TokenPrices | None = None
    priority: TokenPrices | None = None
    search: Price = Decimal(0)
    request: Price = Decimal(0)


@dataclass(frozen=True, slots=True)
class _Rates:
    """The prices that apply to one call."""

    input: Decimal
    output: Decimal
    cached: Decimal
    written: Decimal
    long_written: Decimal
    reasoning: Decimal
    search: Decimal
    request: Decimal

    def cost(self, usage: Usage) -> Decimal:
        cached, written = usage.cached_input_tokens, usage.cache_write_tokens
        long, thought = usage.long_cache_write_tokens, usage.reasoning_tokens
        tokens = (usage.input_tokens - cached - written) * self.input
        tokens += (usage.output_tokens - thought) * self.output
        if cached:
            tokens += cached * self.cached
        if written:
            tokens += (written - long) * self.written + long * self.long_written
        if thought:
            tokens += thought * self.reasoning
        cost = tokens.scaleb(_PER) + self.request
        return cost + usage.web_searches * self.search if usage.web_searches else cost


class Tariff:
    """The prices of one model, ready to be applied.

    Args:
        prices: What it costs.
    """

    __slots__ = ("_rates", "_tiers", "prices")

    def __init__(self, prices: ModelPrices) -> None:
        self.prices = prices
        terms = (prices, prices.batch, prices.flex, prices.priority)
        self._tiers = sorted({tier for each in terms if each is not None for tier in each.above})
        self._rates: dict[tuple[Service, int], _Rates] = {}

    def cost(self, usage: Usage, *, service: Service = "standard") -> Decimal:
        """Return what a usage costs in US dollars, exactly."""
        tier = 0
        for threshold in self._tiers:
            if usage.input_tokens > threshold:
                tier = threshold
        rates = self._rates.get((service, tier))
        if rates is None:
            rates = self._rates[service, tier] = _resolved(self.prices, service, tier)
        return rates.cost(usage)


class PriceTable:
    """Prices by model, under the names by which the gateway calls them.

    Args:
        models: `provider/model` to its prices, as in the file that comes with the package.
        version: Names this state of the prices; it is noted with every cost.
    """

    def __init__(self, models: Mapping[str, object], *, version: str) -> None:
        self._models = models
        self._read: dict[str, Tariff] = {}
        self.version = version

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file like the one that comes with the package; its version is its digest.

        Raises:
            ConfigurationError: It is not there, or holds something else.
        """
        try:
            return cls._parsed(path.read_bytes())
        except (OSError, ValueError, TypeError, KeyError) as error:
            message = f"There is no price table in {str(path)!r}."
            raise ConfigurationError(message, remedy="See prices.json of the package.") from error

    @classmethod
    def _parsed(cls, data: bytes) -> Self:
        models = orjson.loads(data)["models"]
        if not isinstance(models, dict):
            raise TypeError
        return cls(models, version=hashlib.sha256(data).hexdigest()[:12])

    def find(self, model: str) -> Tariff | None:
        """Return a model's prices; None when it is not listed.

        A model that is not listed with its date, its cloud's region or the owner of its fine-tuning
        costs what it costs without.

        Raises:
            ConfigurationError: What is listed are no prices.
        """
        for name in _spellings(model):
            known = self._read.get(name)
            if known is not None:
                return known
            listed = self._models.get(name)
            if listed is not None:
                self._read[name] = found = Tariff(as_prices(name, listed))
                return found
        return None

    def cost(self, model: str, usage: Usage, *, service: Service = "standard") -> Decimal | None:
        """Return what a usage costs in US dollars, exactly; None when the model is not listed.

        Args:
            model: `provider/model`.
            usage: What the provider counted; a cost that it states itself is not looked at.
            service: The provider's terms; what has no price of its own there costs the usual.
        """
        tariff = self.find(model)
        return None if tariff is None else tariff.cost(usage, service=service)

    def __len__(self) -> int:
        """Return how many models are listed."""
        return len(self._models)

    def __contains__(self, model: str) -> bool:
        """Tell whether a model has a price."""
        return any(name in self._models for name in _spellings(model))


@lru_cache(maxsize=1)
def packaged_prices() -> PriceTable:
    """Return the table that comes with the package; reading it takes some milliseconds once."""
    data = files("motadata.gateway.usage").joinpath("prices.json").read_bytes()
    return PriceTable._parsed(data)  # noqa: SLF001 - the same module


def as_prices(model: str, listed: object) -> ModelPrices:
    """Check prices that came from outside.

    Raises:
        ConfigurationError: They are none.
    """
    try:
        return ModelPrices.model_validate(listed)
    except ConfigurationError as error:
        message = f"The model {model!r} has no prices. {error}"
        raise ConfigurationError(message) from error


def _named(found: ErrorDetails) -> str:
    place, given = ".".join(map(str, found["loc"])), repr(found["input"])[:_LONGEST_SHOWN]
    return f"{place}={given}" if place else given


def _spellings(model: str) -> Iterator[str]:
    yield model
    undated = _DATED.sub("", model)
    if undated != model:
        yield undated
    if model.startswith("bedrock/"):
        yield _REGION.sub("bedrock/", model)
    elif model.startswith("openai/ft:"):
        tuned = _FINE_TUNED.sub(r"\1", model)
        yield tuned
        yield _DATED.sub("", tuned)


def _resolved(prices: ModelPrices, service: Service, tier: int) -> _Rates:
    """Look each price up where it is most specific: the service's tier, the service, the usual."""
    terms = None if service == "standard" else getattr(prices, service)
    levels = [
        level
        for base in (terms, prices)
        if base is not None
        for level in (_above(base, tier), base)
        if level is not None
    ]
    found = {name: _first(levels, name) for name in _FIELDS}
    sent, received = found["input"] or Decimal(0), found["output"] or Decimal(0)
    written = sent if found["written"] is None else found["written"]
    # A price of thoughts does not outlive the price of words that it was listed with.
    said = next((level for level in levels if level.output is not None), prices)
    return _Rates(
        sent,
        received,
        sent if found["cached"] is None else found["cached"],
        written,
        written if found["long_written"] is None else found["long_written"],
        received if said.reasoning is None else said.reasoning,
        prices.search,
        prices.request,
    )


def _above(prices: TokenPrices, tier: int) -> TokenPrices | None:
    reached = [threshold for threshold in prices.above if threshold <= tier]
    return prices.above[max(reached)] if reached else None


def _first(levels: list[TokenPrices], name: str) -> Decimal | None:
    for level in levels:
        price: Decimal | None = getattr(level, name)
        if price is not None:
            return price
    return None
