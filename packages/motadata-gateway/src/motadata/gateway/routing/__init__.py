"""Who answers a call: routes of several models, retries, breakers, fallbacks and hedges."""

from motadata.gateway.routing._part import Routing
from motadata.gateway.routing._policy import Order, Route, Target


__all__ = ["Order", "Route", "Routing", "Target"]
