"""How a component says how it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from motadata.core.models._record import Record


HealthStatus = Literal["ok", "degraded", "down"]


@dataclass(frozen=True, slots=True)
class Health(Record):
    """The state of a component and of those it looked at.

    Attributes:
        status: `ok`; `degraded` when it serves less than it could; `down` when it does not serve.
        detail: What is wrong and what to do; free of secrets.
    """

    status: HealthStatus
    detail: str = ""
    components: Mapping[str, Health] = field(default_factory=dict)
