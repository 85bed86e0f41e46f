"""What a tenant may spend in a day or a month, and what it has spent."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Literal

from motadata.core.errors import ConfigurationError
from motadata.core.tenancy import Identifier, TenantId


Period = Literal["day", "month"]


@dataclass(frozen=True, slots=True)
class Amount:
    """Money and tokens, which budgets count side by side."""

    usd: Decimal = Decimal(0)
    tokens: int = 0

    def __add__(self, other: Amount) -> Amount:
        """Add both."""
        return Amount(self.usd + other.usd, self.tokens + other.tokens)

    def __sub__(self, other: Amount) -> Amount:
        """Subtract both."""
        return Amount(self.usd - other.usd, self.tokens - other.tokens)

    def covers(self, other: Amount) -> bool:
        """Tell whether there is enough of both."""
        return self.usd >= other.usd and self.tokens >= other.tokens

    def at_least_nothing(self) -> Amount:
        """Return what is not negative of both."""
        return Amount(max(Decimal(0), self.usd), max(0, self.tokens))


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What each tenant that has this budget may spend in each period, which begins at 0:00 UTC.

    Attributes:
        name: Identifies it: `[A-Za-z0-9_-]{1,64}`.
        period: How long it lasts.
        usd: The most, in US dollars; None does not limit the money.
        tokens: The most, prompts and answers together; None does not limit them.
        soft_usd: From here on the platform is told, and `cheaper_model` answers.
        soft_tokens: Likewise.
        cheaper_model: Full name of the model that is asked beyond a soft limit; None asks as ever.

    Raises:
        ConfigurationError: It limits nothing, or a number is not positive.
        InvalidIdentifierError: The name breaks the grammar of identifiers.
    """

    name: str
    period: Period = "month"
    usd: Decimal | None = None
    tokens: int | None = None
    soft_usd: Decimal | None = None
    soft_tokens: int | None = None
    cheaper_model: str | None = None

    def __post_init__(self) -> None:
        """Refuse what limits nothing."""
        Identifier(self.name)
        if self.period not in ("day", "month"):
            message = f"period={self.period!r} of the budget {self.name!r} is none."
            raise ConfigurationError(message, remedy="Use 'day' or 'month'.")
        limits = (self.usd, self.tokens, self.soft_usd, self.soft_tokens)
        given = [limit for limit in limits if limit is not None]
        if not given or any(not limit > 0 for limit in given):
            message = f"The budget {self.name!r} has no limit, or one that is not above 0."
            raise ConfigurationError(message, remedy="Give at least one limit, each above 0.")

    @property
    def counts_money(self) -> bool:
        """Whether it needs to know what calls cost."""
        return self.usd is not None or self.soft_usd is not None

    def starts_on(self, now: datetime) -> date:
        """Return the first day of the period of an instant."""
        today = now.astimezone(UTC).date()
        return today if self.period == "day" else today.replace(day=1)

    def resets_at(self, start: date) -> datetime:
        """Return when the period that began on a day is over."""
        day = start + timedelta(days=1)
        if self.period == "month":
            day = (start + timedelta(days=31)).replace(day=1)
        return datetime(day.year, day.month, day.day, tzinfo=UTC)

    def left(self, used: Amount) -> Amount:
        """Return what may still be spent when so much is; what is not limited is plenty."""
        return Amount(
            PLENTY.usd if self.usd is None else self.usd - used.usd,
            PLENTY.tokens if self.tokens is None else self.tokens - used.tokens,
        )

    def is_soft_reached(self, spent: Amount) -> bool:
        """Tell whether a soft limit is reached."""
        money = self.soft_usd is not None and spent.usd >= self.soft_usd
        return money or (self.soft_tokens is not None and spent.tokens >= self.soft_tokens)


NOTHING = Amount()
PLENTY = Amount(Decimal(10) ** 15, 10**15)
"""What there is of what is not limited; ten thousand times as much still fits into a bigint."""


@dataclass(frozen=True, slots=True)
class SoftLimitReached:
    """A tenant has reached the soft limit of a budget.

    Attributes:
        spent: In this period, as far as is known.
        resets_at: When the next period begins.
    """

    tenant_id: TenantId
    budget: Budget
    spent: Amount
    resets_at: datetime


@dataclass(frozen=True, slots=True)
class BudgetState:
    """How a tenant stands with a budget.

    Attributes:
        spent: In this period, as instances have reported it.
        held: Set aside by instances for calls under way or to come.
        resets_at: When the next period begins.
    """

    budget: Budget
    spent: Amount
    held: Amount
    resets_at: datetime
