"""What tenants may spend in a day or a month: hard and soft budgets of money and tokens."""

from motadata.gateway.budgets._part import Budgets
from motadata.gateway.budgets._policy import (
    Amount,
    Budget,
    BudgetState,
    Period,
    SoftLimitReached,
)


__all__ = ["Amount", "Budget", "BudgetState", "Budgets", "Period", "SoftLimitReached"]
