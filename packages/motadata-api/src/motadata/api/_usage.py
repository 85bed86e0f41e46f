"""`GET /v1/usage`: what the tenant's calls of models used and cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Self, cast

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import AwareDatetime

from motadata.api._query import BEARER
from motadata.api._responses import PROBLEMS, json_response
from motadata.api.schemas import ResponseBody
from motadata.core.observability import current_trace_id
from motadata.core.platform import Platform
from motadata.core.protocols import UsageGroup, UsageReader, UsageTotal
from motadata.core.tenancy import resolve_tenant


class UsageBody(ResponseBody):
    """What a group of calls used, added up; money is exact, as a string.

    Attributes:
        group: What the calls have in common, by what was asked for.
        saved_usd: What answers from caches and equal calls would have cost.
        unpriced: How many of the calls have no known price.
        failed: How many of them ended with an error.
    """

    group: dict[UsageGroup, str]
    calls: int
    input_tokens: int
    output_tokens: int
    cost_usd: str
    saved_usd: str
    unpriced: int
    failed: int

    @classmethod
    def of(cls, total: UsageTotal, groups: Sequence[UsageGroup]) -> Self:
        """Return a sum as it is sent."""
        return cls(
            group=dict(zip(groups, total.group, strict=True)),
            calls=total.calls,
            input_tokens=total.input_tokens,
            output_tokens=total.output_tokens,
            cost_usd=f"{total.cost_usd:f}",
            saved_usd=f"{total.saved_usd:f}",
            unpriced=total.unpriced,
            failed=total.failed,
        )


class UsageResponse(ResponseBody):
    """One sum a group, in the order of the groups; none when there were no calls."""

    usage: list[UsageBody]
    trace_id: str | None = None


def usage_routes(platform: Platform) -> APIRouter:
    """Return the endpoint that adds usage up."""
    router = APIRouter(prefix="/v1", tags=["usage"], dependencies=[BEARER])

    @router.get(
        "/usage",
        response_model=UsageResponse,
        responses=PROBLEMS,
        summary="Add up what calls of models used and cost",
    )
    async def usage(
        by: Annotated[tuple[UsageGroup, ...], Query(max_length=3)] = (),
        since: AwareDatetime | None = None,
        until: AwareDatetime | None = None,
    ) -> Response:
        groups = tuple(dict.fromkeys(by))
        reader = cast("UsageReader", platform.component("usage"))
        totals = await reader.usage_by(
            *groups, since=since, until=until, tenant_id=resolve_tenant(None)
        )
        body = UsageResponse(
            usage=[UsageBody.of(total, groups) for total in totals], trace_id=current_trace_id()
        )
        return json_response(body)

    return router
