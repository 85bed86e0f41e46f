"""`motadata query`: an answer with numbered citations."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError
from rich.console import Console
from rich.text import Text

from motadata.api._problems import invalid_request
from motadata.api.cli._output import print_json, printable, results_console
from motadata.api.cli._run import EXIT_OK, open_platform
from motadata.api.schemas import CitationBody, QueryRequest, QueryResponse
from motadata.api.unified import UnifiedQuery
from motadata.core.errors import ConfigurationError
from motadata.core.observability import span
from motadata.core.tenancy import TenantId


async def answer_question(fields: Mapping[str, object], *, tenant: str, as_json: bool) -> int:
    """Answer a question and print the answer.

    Raises:
        ConfigurationError: An option does not fit.
        SDKError: The question could not be answered.
    """
    tenant_id = TenantId(tenant)
    request = _checked(fields)
    async with open_platform(quiet=as_json) as platform:
        with span("cli.query", tenant_id=tenant_id) as current:
            answer = await UnifiedQuery.of(platform).ask(
                request.query,
                mode=request.mode,
                limit=request.limit,
                document_ids=request.document_ids,
                tenant_id=tenant_id,
            )
        response = QueryResponse.of(
            request.query,
            mode=answer.mode,
            answer=answer.answer,
            task=answer.task,
            trace_id=current.trace_id,
        )
    if as_json:
        print_json(response)
    else:
        _print(response, results_console())
    return EXIT_OK


def _checked(fields: Mapping[str, object]) -> QueryRequest:
    try:
        return QueryRequest.model_validate(fields)
    except ValidationError as error:
        problem = invalid_request(error.errors(include_input=False, include_url=False))
        raise ConfigurationError(problem.message, remedy="Correct the option.") from None


def _print(response: QueryResponse, console: Console) -> None:
    console.print(Text(printable(response.answer), style="bold"))
    for number, citation in enumerate(response.citations, start=1):
        console.print()
        console.print(Text(f"[{number}] {printable(_place(citation))}", style="cyan"))
        console.print(Text(f"    “{' '.join(printable(citation.quote).split())}”", style="dim"))


def _place(citation: CitationBody) -> str:
    parts = [citation.title]
    if citation.source != citation.title:
        parts.append(citation.source)
    parts.append(f"version {citation.version}")
    if citation.page is not None:
        parts.append(f"page {citation.page}")
    if citation.heading:
        parts.append(citation.heading)
    return " · ".join(parts)
