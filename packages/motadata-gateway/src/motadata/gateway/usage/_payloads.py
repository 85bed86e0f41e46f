"""What a provider says it used, in each provider's words, as one `Usage`.

Pure functions on decoded JSON. Each takes the object with the counts, or the response around it;
numbers that are none (null, negative, words) count as 0. What differs between providers is whether
a count contains another:

- OpenAI counts cached tokens within `prompt_tokens` and reasoning within `completion_tokens`. xAI
  and Gemini's compatible endpoint leave reasoning out, which shows in `total_tokens`.
- Anthropic and Bedrock count cached and written tokens beside `input_tokens`.
- Gemini counts cached tokens within `promptTokenCount`, what its tools read beside it, and thoughts
  beside `candidatesTokenCount`, or within it where `totalTokenCount` shows that.
- litellm puts the counts of all of them into OpenAI's words, with a few names of its own.

A stream says its usage in one event or in several: `merged_counts` adds a later one to what is
known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Final

from motadata.core.models import Usage


Payload = Mapping[str, object]

_NOTHING: Final[Payload] = {}
_MOST: Final = 1 << 53
"""A count above is no count; JSON numbers are exact up to here."""
_GENERATION: Final = re.compile(r"gemini-(?:live-)?(\d)(?!\d)")
_LAST_BY_ANSWER: Final = 2
"""The last generation of Gemini whose searches are charged by the answer."""


def usage_from_openai(payload: Payload) -> Usage | None:
    """Read usage in OpenAI's words: chat completions, responses, embeddings, and their relatives.

    Args:
        payload: A response, a streamed chunk, an event of the Responses API, or their `usage`.

    Returns:
        None when it says no usage, as most chunks of a stream do not.
    """
    body = _within(payload, "response") or payload
    used = _within(body, "usage") or _groq(body) or _choice_usage(body)
    if used is None and _says(body, "prompt_tokens", "input_tokens", "total_tokens"):
        used = body
    if used is None:
        return None
    sent = _details(used, "prompt_tokens_details", "input_tokens_details")
    received = _details(used, "completion_tokens_details", "output_tokens_details")
    inputs = _first(used, "prompt_tokens", "input_tokens")
    outputs = _first(used, "completion_tokens", "output_tokens")
    reasoning = _first(received, "reasoning_tokens") or _first(used, "reasoning_tokens")
    total = _first(used, "total_tokens")
    if reasoning and total == inputs + outputs + reasoning:
        outputs += reasoning
    cached = _first(sent, "cached_tokens") or _first(
        used, "cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens"
    )
    written = _first(sent, "cache_write_tokens", "cache_creation_tokens") or _first(
        used, "cache_creation_input_tokens"
    )
    tools = _details(used, "server_tool_use", "server_side_tool_usage_details")
    return _usage(
        inputs,
        outputs,
        cached=cached,
        written=written,
        long=_first(_details(sent, "cache_creation_token_details"), "ephemeral_1h_input_tokens"),
        reasoning=reasoning,
        searches=_first(tools, "web_search_requests", "web_search_calls")
        or _first(used, "num_search_queries")
        or _first(sent, "web_search_requests")
        or _search_calls(body),
        cost=_cost(used.get("cost")),
    )


def usage_from_anthropic(payload: Payload) -> Usage | None:
    """Read usage in Anthropic's words.

    Args:
        payload: A message, a `message_start` or `message_delta` event, or their `usage`.

    Returns:
        None when it says no usage.
    """
    message = _within(payload, "message") or payload
    used = _within(message, "usage")
    if used is None:
        if not _says(message, "input_tokens", "output_tokens"):
            return None
        used = message
    creation = _details(used, "cache_creation")
    long = _first(creation, "ephemeral_1h_input_tokens")
    written = _first(used, "cache_creation_input_tokens") or (
        long + _first(creation, "ephemeral_5m_input_tokens")
    )
    cached = _first(used, "cache_read_input_tokens")
    return _usage(
        _first(used, "input_tokens") + cached + written,
        _first(used, "output_tokens"),
        cached=cached,
        written=written,
        long=long,
        reasoning=_first(_details(used, "output_tokens_details"), "thinking_tokens"),
        searches=_first(_details(used, "server_tool_use"), "web_search_requests"),
    )


def usage_from_gemini(payload: Payload, *, model: str = "") -> Usage | None:
    """Read usage in Gemini's words.

    An answer that is grounded on the web counts one search up to Gemini 2, which charges by the
    answer, and each query once from Gemini 3 on, which charges by the query. What the searches
    found is no part of the input: Google does not charge for it as tokens.

    Args:
        payload: A response, a streamed part of one, or their `usageMetadata`.
        model: Who was asked, for a payload that does not say who answered. Without either, searches
            count by the answer.

    Returns:
        None when it says no usage.
    """
    used = _within(payload, "usageMetadata") or _within(payload, "usage_metadata")
    if used is None:
        if not _says(payload, "promptTokenCount", "totalTokenCount", "prompt_token_count"):
            return None
        used = payload
    sent = _first(used, "promptTokenCount", "prompt_token_count")
    said = _first(used, "candidatesTokenCount", "responseTokenCount", "candidates_token_count")
    thoughts = _first(used, "thoughtsTokenCount", "thoughts_token_count")
    tools = _first(used, "toolUsePromptTokenCount", "tool_use_prompt_token_count")
    total = _first(used, "totalTokenCount", "total_token_count")
    queries = _queries(payload)
    return _usage(
        sent if queries else sent + tools,
        said if total == sent + tools + said else said + thoughts,
        cached=_first(used, "cachedContentTokenCount", "cached_content_token_count"),
        reasoning=thoughts,
        searches=queries if _is_charged_by_query(payload, model) else min(queries, 1),
    )


def usage_from_bedrock(payload: Payload) -> Usage | None:
    """Read usage in the words of Bedrock's Converse and InvokeModel.

    Args:
        payload: A response, a `metadata` event of a stream, the last chunk of
            InvokeModelWithResponseStream, or their counts.

    Returns:
        None when it says no usage.
    """
    used = _within(_within(payload, "metadata") or payload, "usage") or payload
    if _says(used, "input_tokens", "output_tokens"):
        return usage_from_anthropic(used)
    if _says(used, "prompt_tokens"):
        return usage_from_openai(used)
    used = _within(payload, "amazon-bedrock-invocationMetrics") or used
    if not _says(used, "inputTokens", "outputTokens", "inputTokenCount", "outputTokenCount"):
        return None
    cached = _first(used, "cacheReadInputTokens", "cacheReadInputTokenCount")
    written = _first(used, "cacheWriteInputTokens", "cacheWriteInputTokenCount")
    return _usage(
        _first(used, "inputTokens", "inputTokenCount") + cached + written,
        _first(used, "outputTokens", "outputTokenCount"),
        cached=cached,
        written=written,
        long=_one_hour(used.get("cacheDetails")),
    )


def merged_counts(before: Payload, after: Payload) -> Payload:
    """Return counts with those that a later event of the stream states in place of earlier ones.

    Counts are cumulative with every provider, so that the last word on each one holds; what an
    event leaves out or says as null stays as it was.

    Args:
        before: The counts so far; empty at first.
        after: The counts of the event.
    """
    known = dict(before)
    for name, value in after.items():
        earlier = known.get(name)
        if isinstance(value, Mapping) and isinstance(earlier, Mapping):
            known[name] = merged_counts(earlier, value)
        elif value is not None:
            known[name] = value
    return known


def _usage(
    inputs: int,
    outputs: int,
    *,
    cached: int = 0,
    written: int = 0,
    long: int = 0,
    reasoning: int = 0,
    searches: int = 0,
    cost: Decimal | None = None,
) -> Usage:
    """Return a usage whose parts are never more than the whole."""
    cached = min(cached, inputs)
    written = min(written, inputs - cached)
    return Usage(
        inputs,
        outputs,
        cost,
        cached,
        written,
        min(reasoning, outputs),
        searches,
        min(long, written),
    )


def _within(payload: Payload, name: str) -> Payload | None:
    # Most names are not there, and asking whether None is a mapping costs more than all else.
    value = payload.get(name)
    return value if value is not None and isinstance(value, dict | Mapping) else None


def _details(used: Payload, *names: str) -> Payload:
    for name in names:
        found = _within(used, name)
        if found is not None:
            return found
    return _NOTHING


def _says(payload: Payload, *names: str) -> bool:
    return any(name in payload for name in names)


def _first(used: Payload, *names: str) -> int:
    for name in names:
        value = used.get(name)
        if value is None:
            continue
        if type(value) is int and 0 <= value <= _MOST:
            return value
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST:
            return value
    return 0


def _groq(body: Payload) -> Payload | None:
    return _within(_details(body, "x_groq"), "usage")


def _choice_usage(body: Payload) -> Payload | None:
    """Find what some, such as Moonshot, say within the last chunk's choice."""
    choices = body.get("choices")
    if isinstance(choices, Sequence) and choices and isinstance(choices[0], Mapping):
        return _within(choices[0], "usage")
    return None


def _search_calls(body: Payload) -> int:
    """Count the searches among the items of the Responses API's output."""
    items = body.get("output")
    if not isinstance(items, Sequence) or isinstance(items, str):
        return 0
    return sum(_searched(item) for item in items)


def _searched(item: object) -> bool:
    """Tell whether an item is a search; opening a page that was found is not charged."""
    if not isinstance(item, Mapping) or item.get("type") != "web_search_call":
        return False
    action = item.get("action")
    return not isinstance(action, Mapping) or action.get("type", "search") == "search"


def _queries(payload: Payload) -> int:
    """Count the different queries that an answer was grounded on."""
    candidates = payload.get("candidates")
    if not isinstance(candidates, Sequence) or isinstance(candidates, str):
        return 0
    queries: set[str] = set()
    for candidate in candidates:
        if isinstance(candidate, Mapping):
            found = _details(candidate, "groundingMetadata", "grounding_metadata")
            said = found.get("webSearchQueries") or found.get("web_search_queries")
            if isinstance(said, Sequence) and not isinstance(said, str):
                queries.update(query for query in said if isinstance(query, str) and query)
    return len(queries)


def _is_charged_by_query(payload: Payload, model: str) -> bool:
    for name in (payload.get("modelVersion") or payload.get("model_version"), model):
        known = _GENERATION.search(name) if isinstance(name, str) else None
        if known is not None:
            return int(known[1]) > _LAST_BY_ANSWER
    # Names without a number, such as `gemini-flash-latest`, are those of the present.
    return model.rpartition("/")[2].startswith("gemini")


def _one_hour(details: object) -> int:
    if not isinstance(details, Sequence) or isinstance(details, str):
        return 0
    return sum(
        _first(item, "inputTokens")
        for item in details
        if isinstance(item, Mapping) and item.get("ttl") == "1h"
    )


def _cost(stated: object) -> Decimal | None:
    """Read the price that OpenRouter and Perplexity state in US dollars."""
    if isinstance(stated, Mapping):
        stated = stated.get("total_cost")
    if isinstance(stated, bool) or not isinstance(stated, int | float | str | Decimal):
        return None
    try:
        cost = Decimal(str(stated))
    except InvalidOperation:
        return None
    return cost if cost.is_finite() and cost >= 0 else None
