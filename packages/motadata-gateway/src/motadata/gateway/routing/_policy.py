"""Which models may answer to a name, in which order, and how patiently they are asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from motadata.core.errors import ConfigurationError


Order = Literal["given", "weighted", "least_busy", "cheapest", "fastest"]
"""How the models of a route are ordered for a call.

`given` as they are listed, `weighted` at random by weight, `least_busy` by requests under way a
weight, `cheapest` by what the call would cost, `fastest` by what answers took lately. Models that
failed lately come behind the others in any case.
"""

_ORDERS: Final = frozenset(get_args(Order))


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A model of a route.

    Attributes:
        model: Full name, `provider/model`.
        weight: Its part of the calls, compared with those of the others.
        timeout: Seconds for one request to it. None means half of the time that the call has left
            while there are others to ask, and all of it after that.
    """

    model: str
    weight: float = 1.0
    timeout: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be asked."""
        if "/" not in self.model:
            message = f"The model {self.model!r} of a route names no provider."
            raise ConfigurationError(message, remedy="Name it like 'openai/gpt-4o-mini'.")
        if not self.weight > 0 or not (self.timeout is None or self.timeout > 0):
            message = f"weight={self.weight!r}, timeout={self.timeout!r} do not fit {self.model!r}."
            raise ConfigurationError(message, remedy="Give positive numbers.")

    def seconds(self, left: float, *, others: bool) -> float:
        """Return how long one request may take.

        Args:
            left: What the call has left.
            others: Whether there are others to ask after it.
        """
        if self.timeout is not None:
            return min(self.timeout, left)
        return left / 2 if others else left


@dataclass(frozen=True, slots=True)
class Route:
    """What a name stands for: models of which the first that answers is enough.

        Route(("openai/gpt-4o", "anthropic/claude-sonnet-4"))

    Attributes:
        targets: Models, at least one, each once; a name alone is a target without extras.
        order: In which order a call asks them.
        longer: Asked when a conversation does not fit into the context window of a target.
        policy: Asked when a target's content policy refused.
        hedge_after: Seconds after which a second target is asked as well, without giving the first
            one up; whoever answers first is taken. None asks one at a time. Streams are not hedged.

    Raises:
        ConfigurationError: There is no target, one occurs twice, or a setting is none.
    """

    targets: tuple[Target | str, ...]
    order: Order = "given"
    longer: tuple[str, ...] = ()
    policy: tuple[str, ...] = ()
    hedge_after: float | None = None

    def __post_init__(self) -> None:
        """Refuse what leads nowhere."""
        models = [target.model for target in as_targets(self.targets)]
        as_targets((*self.longer, *self.policy))
        if not models or len(set(models)) < len(models):
            message = f"A route of the models {models!r} has none, or one of them twice."
            raise ConfigurationError(message, remedy="List each model once.")
        if self.order not in _ORDERS:
            message = f"order={self.order!r} is no order."
            raise ConfigurationError(message, remedy=f"Use one of {', '.join(sorted(_ORDERS))}.")
        if self.hedge_after is not None and not self.hedge_after > 0:
            message = f"hedge_after={self.hedge_after!r} is no number of seconds."
            raise ConfigurationError(message, remedy="Give a positive number, or leave it out.")

    @property
    def models(self) -> tuple[str, ...]:
        """Every model that may answer, the targets first."""
        targets = as_targets((*self.targets, *self.longer, *self.policy))
        return tuple(dict.fromkeys(target.model for target in targets))


def as_targets(listed: tuple[Target | str, ...]) -> tuple[Target, ...]:
    """Return targets, those made of names included."""
    return tuple(Target(model=item) if isinstance(item, str) else item for item in listed)
