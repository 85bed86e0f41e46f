"""What a tenant may spend in a day or a month, and what it has spent."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Literal

from motadata.core.errors import ConfigurationError
from motadata.core.tenancy import Identifier, TenantId


Period = Literal["day", "month"]
Money = Decimal | int | str | float


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

    Money may be given as a `Decimal`, an `int`, a `str`, or a `float`, too, and is a `Decimal`
    from then on: what is written is what counts, so that 0.1 is a tenth exactly.

    Attributes:
        name: Identifies it: `[A-Za-z0-9_-]{1,64}`.
        period: How long it lasts.
        usd: The most, in US dollars; None does not limit the money.
        tokens: The most, prompts and answers together; None does not limit them.
        soft_usd: From here on the platform is told, and `cheaper_model` answers.
        soft_tokens: Likewise.
        cheaper_model: Full name of the model that is asked beyond a soft limit; None asks as ever.

    Raises:
        ConfigurationError: It limits nothing, a limit is no finite number above 0, a soft limit is
            above its limit, or a cheaper model is named and no soft limit leads to it.
        InvalidIdentifierError: The name breaks the grammar of identifiers.
    """

    name: str
    period: Period = "month"
    usd: Decimal | None = None
    tokens: int | None = None
    soft_usd: Decimal | None = None
    soft_tokens: int | None = None
    cheaper_model: str | None = None

    if TYPE_CHECKING:
        # The one that is made, for type checkers: it takes more kinds of money than it keeps.
        def __init__(
            self,
            *,
            name: str,
            period: Period = "month",
            usd: Money | None = None,
            tokens: int | None = None,
            soft_usd: Money | None = None,
            soft_tokens: int | None = None,
            cheaper_model: str | None = None,
        ) -> None: ...

    def __post_init__(self) -> None:
        """Refuse what limits nothing, or cannot be meant; make money exact."""
        Identifier(self.name)
        if self.period not in ("day", "month"):
            message = f"period={self.period!r} of the budget {self.name!r} is none."
            raise ConfigurationError(message, remedy="Use 'day' or 'month'.")
        for field in ("usd", "soft_usd"):
            object.__setattr__(self, field, self._money(field))
        for field in ("tokens", "soft_tokens"):
            self._check_tokens(field)
        if not self.counts_money and self.tokens is None and self.soft_tokens is None:
            message = f"The budget {self.name!r} has no limit."
            raise ConfigurationError(message, remedy="Give at least one.")
        self._check_soft_limits()

    def _money(self, field: str) -> Decimal | None:
        given: object = getattr(self, field)
        if given is None:
            return None
        if isinstance(given, int | float | str | Decimal) and not isinstance(given, bool):
            try:
                # By its text: the one of a float is what was written.
                money = given if isinstance(given, Decimal) else Decimal(str(given))
                if money.is_finite() and 0 < money <= PLENTY.usd:
                    return money
            except InvalidOperation:
                pass
        raise self._no_limit(field, given, "a finite number of US dollars")

    def _check_tokens(self, field: str) -> None:
        given: object = getattr(self, field)
        if given is None:
            return
        whole = isinstance(given, int) and not isinstance(given, bool)
        if not (whole and 0 < given <= PLENTY.tokens):  # type: ignore[operator]  # it is an int
            raise self._no_limit(field, given, "a whole number of tokens")

    def _no_limit(self, field: str, given: object, wanted: str) -> ConfigurationError:
        message = f"{field}={given!r} of the budget {self.name!r} is no limit."
        remedy = f"Give {wanted}, above 0 and at most {PLENTY.tokens:,}, or leave it out."
        return ConfigurationError(message, remedy=remedy)

    def _check_soft_limits(self) -> None:
        money = (self.soft_usd, self.usd)
        tokens = (self.soft_tokens, self.tokens)
        if _is_above(*money) or _is_above(*tokens):
            message = f"A soft limit of the budget {self.name!r} is above its limit."
            raise ConfigurationError(message, remedy="It would never be reached; lower it.")
        cheaper: object = self.cheaper_model
        if cheaper is None:
            return
        if not isinstance(cheaper, str) or not cheaper:
            message = f"cheaper_model={cheaper!r} of the budget {self.name!r} is none."
            raise ConfigurationError(message, remedy="Name it like 'openai/gpt-4o-mini'.")
        if self.soft_usd is None and self.soft_tokens is None:
            message = f"The budget {self.name!r} has a cheaper model, and no soft limit."
            raise ConfigurationError(message, remedy="Give `soft_usd` or `soft_tokens`, too.")

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


def _is_above(soft: Decimal | int | None, limit: Decimal | int | None) -> bool:
    return soft is not None and limit is not None and soft > limit


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
