"""What a provider says it used, in each provider's words, as one `Usage`.

Pure functions on decoded JSON. Each takes the object with the counts, or the response around it.
What differs between providers is whether a count contains another:

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

from collections.abc import Mapping, Sequence

from motadata.core.models import Usage
from motadata.gateway.usage._counts import (
    Payload,
    as_usage,
    details,
    first,
    says,
    stated_cost,
    within,
)
from motadata.gateway.usage._searches import is_charged_by_query, queries_of, search_calls


def usage_from_openai(payload: Payload) -> Usage | None:
    """Read usage in OpenAI's words: chat completions, responses, embeddings, and their relatives.

    Args:
        payload: A response, a streamed chunk, an event of the Responses API, or their `usage`.

    Returns:
        None when it says no usage, as most chunks of a stream do not.
    """
    body = within(payload, "response") or payload
    used = within(body, "usage") or _groq(body) or _choice_usage(body)
    if used is None and says(body, "prompt_tokens", "input_tokens", "total_tokens"):
        used = body
    if used is None:
        return None
    sent = details(used, "prompt_tokens_details", "input_tokens_details")
    received = details(used, "completion_tokens_details", "output_tokens_details")
    inputs = first(used, "prompt_tokens", "input_tokens")
    outputs = first(used, "completion_tokens", "output_tokens")
    reasoning = first(received, "reasoning_tokens") or first(used, "reasoning_tokens")
    if reasoning and first(used, "total_tokens") == inputs + outputs + reasoning:
        outputs += reasoning
    cached = first(sent, "cached_tokens") or first(
        used, "cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens"
    )
    written = first(sent, "cache_write_tokens", "cache_creation_tokens") or first(
        used, "cache_creation_input_tokens"
    )
    return as_usage(
        inputs,
        outputs,
        cached=cached,
        written=written,
        long=first(details(sent, "cache_creation_token_details"), "ephemeral_1h_input_tokens"),
        reasoning=reasoning,
        searches=_openai_searches(used, sent) or search_calls(body),
        cost=stated_cost(used.get("cost")),
    )


def _openai_searches(used: Payload, sent: Payload) -> int:
    tools = details(used, "server_tool_use", "server_side_tool_usage_details")
    return (
        first(tools, "web_search_requests", "web_search_calls")
        or first(used, "num_search_queries")
        or first(sent, "web_search_requests")
    )


def usage_from_anthropic(payload: Payload) -> Usage | None:
    """Read usage in Anthropic's words.

    Args:
        payload: A message, a `message_start` or `message_delta` event, or their `usage`.

    Returns:
        None when it says no usage.
    """
    message = within(payload, "message") or payload
    used = within(message, "usage")
    if used is None:
        if not says(message, "input_tokens", "output_tokens"):
            return None
        used = message
    creation = details(used, "cache_creation")
    long = first(creation, "ephemeral_1h_input_tokens")
    written = first(used, "cache_creation_input_tokens") or (
        long + first(creation, "ephemeral_5m_input_tokens")
    )
    cached = first(used, "cache_read_input_tokens")
    return as_usage(
        first(used, "input_tokens") + cached + written,
        first(used, "output_tokens"),
        cached=cached,
        written=written,
        long=long,
        reasoning=first(details(used, "output_tokens_details"), "thinking_tokens"),
        searches=first(details(used, "server_tool_use"), "web_search_requests"),
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
    used = within(payload, "usageMetadata") or within(payload, "usage_metadata")
    if used is None:
        if not says(payload, "promptTokenCount", "totalTokenCount", "prompt_token_count"):
            return None
        used = payload
    sent = first(used, "promptTokenCount", "prompt_token_count")
    said = first(used, "candidatesTokenCount", "responseTokenCount", "candidates_token_count")
    thoughts = first(used, "thoughtsTokenCount", "thoughts_token_count")
    tools = first(used, "toolUsePromptTokenCount", "tool_use_prompt_token_count")
    total = first(used, "totalTokenCount", "total_token_count")
    queries = queries_of(payload)
    return as_usage(
        sent if queries else sent + tools,
        said if total == sent + tools + said else said + thoughts,
        cached=first(used, "cachedContentTokenCount", "cached_content_token_count"),
        reasoning=thoughts,
        searches=queries if is_charged_by_query(payload, model) else min(queries, 1),
    )


def usage_from_bedrock(payload: Payload) -> Usage | None:
    """Read usage in the words of Bedrock's Converse and InvokeModel.

    Args:
        payload: A response, a `metadata` event of a stream, the last chunk of
            InvokeModelWithResponseStream, or their counts.

    Returns:
        None when it says no usage.
    """
    used = within(within(payload, "metadata") or payload, "usage") or payload
    if says(used, "input_tokens", "output_tokens"):
        return usage_from_anthropic(used)
    if says(used, "prompt_tokens"):
        return usage_from_openai(used)
    used = within(payload, "amazon-bedrock-invocationMetrics") or used
    if not says(used, "inputTokens", "outputTokens", "inputTokenCount", "outputTokenCount"):
        return None
    cached = first(used, "cacheReadInputTokens", "cacheReadInputTokenCount")
    written = first(used, "cacheWriteInputTokens", "cacheWriteInputTokenCount")
    return as_usage(
        first(used, "inputTokens", "inputTokenCount") + cached + written,
        first(used, "outputTokens", "outputTokenCount"),
        cached=cached,
        written=written,
        long=_one_hour(used.get("cacheDetails")),
    )


def _groq(body: Payload) -> Payload | None:
    return within(details(body, "x_groq"), "usage")


def _choice_usage(body: Payload) -> Payload | None:
    """Find what some, such as Moonshot, say within the last chunk's choice."""
    choices = body.get("choices")
    if isinstance(choices, Sequence) and choices and isinstance(choices[0], Mapping):
        return within(choices[0], "usage")
    return None


def _one_hour(details: object) -> int:
    if not isinstance(details, Sequence) or isinstance(details, str):
        return 0
    return sum(
        first(item, "inputTokens")
        for item in details
        if isinstance(item, Mapping) and item.get("ttl") == "1h"
    )
