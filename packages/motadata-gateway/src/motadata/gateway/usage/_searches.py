"""How many searches of the web an answer took, as far as its provider charges for them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from motadata.gateway.usage._counts import Payload, details


_GENERATION: Final = re.compile(r"gemini-(?:live-)?(\d)(?!\d)")
_LAST_BY_ANSWER: Final = 2
"""The last generation of Gemini whose searches are charged by the answer."""


def search_calls(body: Payload) -> int:
    """Count the searches among the items of the Responses API's output."""
    items = body.get("output")
    if not isinstance(items, Sequence) or isinstance(items, str):
        return 0
    return sum(_searched(item) for item in items)


def queries_of(payload: Payload) -> int:
    """Count the different queries that an answer was grounded on."""
    candidates = payload.get("candidates")
    if not isinstance(candidates, Sequence) or isinstance(candidates, str):
        return 0
    queries: set[str] = set()
    for candidate in candidates:
        if isinstance(candidate, Mapping):
            found = details(candidate, "groundingMetadata", "grounding_metadata")
            said = found.get("webSearchQueries") or found.get("web_search_queries")
            if isinstance(said, Sequence) and not isinstance(said, str):
                queries.update(query for query in said if isinstance(query, str) and query)
    return len(queries)


def is_charged_by_query(payload: Payload, model: str) -> bool:
    """Tell whether Gemini charges each query of an answer, or the answer once."""
    for name in (payload.get("modelVersion") or payload.get("model_version"), model):
        known = _GENERATION.search(name) if isinstance(name, str) else None
        if known is not None:
            return int(known[1]) > _LAST_BY_ANSWER
    # Names without a number, such as `gemini-flash-latest`, are those of the present.
    return model.rpartition("/")[2].startswith("gemini")


def _searched(item: object) -> bool:
    """Tell whether an item is a search; opening a page that was found is not charged."""
    if not isinstance(item, Mapping) or item.get("type") != "web_search_call":
        return False
    action = item.get("action")
    return not isinstance(action, Mapping) or action.get("type", "search") == "search"
