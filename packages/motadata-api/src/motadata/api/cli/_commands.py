"""The commands with their options and help; what they do is in the modules beside this one."""

# ruff: noqa: D301 - a backspace in a docstring marks text whose lines the help keeps

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from motadata.api._version import __version__


class Mode(StrEnum):
    """Who answers a question."""

    AUTO = "auto"
    RAG = "rag"
    AGENT = "agent"
    BOTH = "both"


Tenant = Annotated[
    str,
    typer.Option(
        "--tenant",
        "-t",
        envvar="MOTADATA_TENANT",
        help="Whom it is for: 1 to 64 of A-Z a-z 0-9 _ and -.",
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print JSON in the shapes of the HTTP API, and no more.")
]

app = typer.Typer(
    name="motadata",
    help=(
        "Ask questions of your documents and get cited answers, per tenant.\n\n"
        "\b\n"
        "  motadata ingest ./handbook --tenant acme\n"
        '  motadata query "Who approves a change?" --tenant acme\n'
        "  motadata serve --tenant acme --with-key\n\n"
        "Without MOTADATA_DATABASE_URL it starts a PostgreSQL of its own, which keeps its data in "
        "MOTADATA_DATA_DIRECTORY (.motadata). Exit codes: 0 all well, 1 something failed, "
        "2 the command or a setting is wrong."
    ),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # the plain help needs half the time to start
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
keys = typer.Typer(
    name="keys", help="Make, list and revoke the API keys of a tenant.", no_args_is_help=True
)
app.add_typer(keys)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer's callback
    if wanted:
        typer.echo(f"motadata-api {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    *,
    debug: Annotated[
        bool, typer.Option("--debug", help="Log everything, and show where an error came from.")
    ] = False,
    version: Annotated[  # noqa: ARG001 - its callback acts
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Keep what holds for every command."""
    context.obj = debug


@app.command()
def ingest(
    context: typer.Context,
    paths: Annotated[
        list[Path], typer.Argument(exists=True, help="Files and folders; folders with all in them.")
    ],
    *,
    tenant: Tenant,
    as_json: Json = False,
) -> None:
    """Store files in the knowledge base of a tenant.

    A file that was stored before and has not changed is left alone; a changed one becomes a new
    version. A file that cannot be read is reported, and the others go on.

    \b
      motadata ingest guide.pdf --tenant acme
      motadata ingest ./handbook ./runbooks --tenant acme
      motadata ingest ./handbook --tenant acme --json | jq '.files[] | select(.error)'
    """
    from motadata.api.cli._ingest import ingest_paths
    from motadata.api.cli._run import execute

    execute(lambda: ingest_paths(paths, tenant=tenant, as_json=as_json), context, as_json=as_json)


@app.command()
def query(
    context: typer.Context,
    question: Annotated[str, typer.Argument(help="What you want to know.")],
    *,
    tenant: Tenant,
    mode: Annotated[Mode, typer.Option(help="Who answers.")] = Mode.AUTO,
    limit: Annotated[
        int, typer.Option(min=1, max=100, help="How many passages the answer may rest on.")
    ] = 8,
    document: Annotated[
        list[str] | None, typer.Option(help="Search this document only; may be repeated.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Answer a question from the documents of a tenant, with citations.

    \b
      motadata query "Who approves an emergency change?" --tenant acme
      motadata query "What is INC-1234 about?" --tenant acme --json | jq -r .answer
    """
    from motadata.api.cli._query import answer_question
    from motadata.api.cli._run import execute

    fields = {
        "query": question,
        "mode": mode.value,
        "limit": limit,
        "document_ids": document or [],
    }
    execute(
        lambda: answer_question(fields, tenant=tenant, as_json=as_json), context, as_json=as_json
    )


@app.command()
def serve(
    context: typer.Context,
    *,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8080,
    tenant: Annotated[
        str | None,
        typer.Option("--tenant", "-t", envvar="MOTADATA_TENANT", help="Whom --with-key is for."),
    ] = None,
    with_key: Annotated[
        bool,
        typer.Option(
            "--with-key",
            help="Make a key for the tenant, print the address with it, and revoke it at the "
            "end. For trying things out.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Serve the HTTP API and the console page until interrupted.

    \b
      motadata serve --tenant acme --with-key      then open the printed address
      motadata serve --host 0.0.0.0 --port 8080    behind a proxy that speaks TLS
    """
    from motadata.api.cli._run import execute
    from motadata.api.cli._serve import serve_platform

    if with_key and not tenant:
        raise typer.BadParameter("--with-key needs a tenant.", param_hint="--tenant")
    work = lambda: serve_platform(  # noqa: E731 - shorter than a function of its own
        host, port, tenant=tenant if with_key else None, as_json=as_json
    )
    execute(work, context, as_json=as_json, log_level="INFO")


@app.command()
def doctor(
    context: typer.Context,
    *,
    tenant: Annotated[
        str,
        typer.Option("--tenant", "-t", envvar="MOTADATA_TENANT", help="Whose view of the data."),
    ] = "doctor",
    as_json: Json = False,
) -> None:
    """Check that everything is in place, and say what to do about what is not.

    \b
      motadata doctor
      motadata doctor --json | jq '.checks[] | select(.status != "ok")'
    """
    from motadata.api.cli._doctor import examine
    from motadata.api.cli._run import execute

    execute(lambda: examine(tenant=tenant, as_json=as_json), context, as_json=as_json)


@keys.command("create")
def create_key(
    context: typer.Context,
    *,
    tenant: Tenant,
    label: Annotated[str, typer.Option(help="What the key is for.")] = "command line",
    as_json: Json = False,
) -> None:
    """Make an API key and print it: the only time that anybody sees it.

    \b
      export KEY=$(motadata keys create --tenant acme --label "service desk")
      curl -H "Authorization: Bearer $KEY" http://127.0.0.1:8080/v1/documents
    """
    from motadata.api.cli._keys import create
    from motadata.api.cli._run import execute

    execute(lambda: create(label, tenant=tenant, as_json=as_json), context, as_json=as_json)


@keys.command("list")
def list_keys(context: typer.Context, *, tenant: Tenant, as_json: Json = False) -> None:
    """List the API keys of a tenant, without the keys themselves.

    \b
      motadata keys list --tenant acme
    """
    from motadata.api.cli._keys import show
    from motadata.api.cli._run import execute

    execute(lambda: show(tenant=tenant, as_json=as_json), context, as_json=as_json)


@keys.command("revoke")
def revoke_key(
    context: typer.Context,
    key_id: Annotated[str, typer.Argument(help="The id that `motadata keys list` shows.")],
    *,
    tenant: Tenant,
    as_json: Json = False,
) -> None:
    """Stop an API key from opening; running servers notice within ten seconds.

    \b
      motadata keys revoke 019283f0-… --tenant acme
    """
    from motadata.api.cli._keys import revoke
    from motadata.api.cli._run import execute

    execute(lambda: revoke(key_id, tenant=tenant, as_json=as_json), context, as_json=as_json)
