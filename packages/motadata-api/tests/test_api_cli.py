"""The command line as people and scripts use it: real processes, their output and exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest


if TYPE_CHECKING:
    from motadata.core.testing._database_fixtures import DatabaseDsns

REAL = ("-m", "motadata.api.cli")
WITH_FAKES = (str(Path(__file__).with_name("motadata_with_fakes.py")),)
VPN = "The VPN token is reset in the self-service portal. Printers are on floor two."
QUESTION = "How is the VPN token reset?"

Finished = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def migration_packages() -> tuple[str, ...]:
    return ("motadata.api.migrations",)


@pytest.fixture
def real_database(database_dsns: DatabaseDsns) -> dict[str, str]:
    return {
        "MOTADATA_DATABASE_URL": database_dsns.runtime,
        "MOTADATA_DATABASE_OWNER_URL": database_dsns.owner,
    }


def environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    kept = {name: text for name, text in os.environ.items() if not name.startswith("MOTADATA_")}
    return {**kept, "COLUMNS": "100", **(extra or {})}


def motadata(*arguments: str, program: tuple[str, ...] = WITH_FAKES, **extra: str) -> Finished:
    return subprocess.run(
        [sys.executable, *program, *arguments],
        env=environment(extra),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


class TestHelp:
    def test_names_every_command_and_imports_nothing_heavy(self):
        code = (
            "import sys; from motadata.api.cli import main\n"
            "try: main()\n"
            "except SystemExit: print('HEAVY', sorted({'pydantic', 'fastapi', 'uvicorn', 'asyncpg',"
            " 'rich', 'numpy'} & set(sys.modules)))"
        )

        done = subprocess.run(
            [sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True
        )

        assert all(f"\n  {name}" in done.stdout for name in ("ingest", "query", "serve", "doctor"))
        assert "HEAVY []" in done.stdout

    @pytest.mark.parametrize(
        "command",
        ["ingest", "query", "serve", "doctor", "keys create", "keys list", "keys revoke"],
    )
    def test_of_each_command_shows_an_example(self, command: str):
        done = motadata(*command.split(), "--help", program=REAL)

        assert done.returncode == 0
        assert f"  motadata {command}" in done.stdout or "$(motadata keys" in done.stdout
        assert "--json" in done.stdout


class TestQuery:
    def test_prints_the_answer_and_its_numbered_citations(self):
        done = motadata("query", QUESTION, "--tenant", "acme", DOCUMENTS=json.dumps({"vpn": VPN}))

        assert done.returncode == 0, done.stderr
        assert "self-service portal. [1]" in done.stdout
        assert "\n[1] vpn · version 1\n" in done.stdout

    def test_with_json_prints_the_shape_of_the_api_and_no_more(self):
        done = motadata(
            *("query", QUESTION, "--json"),
            MOTADATA_TENANT="acme",
            DOCUMENTS=json.dumps({"vpn": VPN}),
        )

        body = json.loads(done.stdout)
        assert body["answered"] is True
        assert body["mode"] == "rag"
        assert len(body["trace_id"]) == 32
        assert (
            VPN[body["citations"][0]["start"] : body["citations"][0]["end"]]
            == (body["citations"][0]["quote"])
        )

    def test_of_another_tenant_finds_nothing(self):
        done = motadata(
            "query", QUESTION, "-t", "globex", "--json", DOCUMENTS=json.dumps({"vpn": VPN})
        )

        assert json.loads(done.stdout)["answered"] is False

    def test_does_not_let_a_document_talk_to_the_terminal(self):
        text = "The VPN token is reset \x1b]0;owned\x07 \x1b[31m[bold]here[/bold]."

        done = motadata("query", QUESTION, "-t", "acme", DOCUMENTS=json.dumps({"\x1b[2Jvpn": text}))

        assert done.returncode == 0
        assert "\x1b" not in done.stdout
        assert "\x07" not in done.stdout
        assert "[bold]here[/bold]" in done.stdout


class TestIngest:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        folder = tmp_path / "handbook"
        folder.mkdir()
        (folder / "a.md").write_text("Alpha.")
        (folder / "b.bin").write_bytes(b"\0")
        (folder / "c.md").write_text("Gamma.")
        return folder

    def test_of_a_folder_stores_what_it_can_and_says_what_failed_and_why(self, folder: Path):
        done = motadata("ingest", str(folder), "-t", "acme")

        assert done.returncode == 1, done.stderr
        assert "created  handbook/a.md" in done.stdout
        assert "failed   handbook/b.bin" in done.stdout
        assert "unsupported_format" in done.stdout
        assert "2 created, 1 failed" in done.stdout

    def test_with_json_prints_the_shape_of_the_api_and_no_more(self, folder: Path):
        single = folder / "c.md"

        done = motadata("ingest", str(folder), str(single), "-t", "acme", "--json")

        files = json.loads(done.stdout)["files"]
        assert [(f["source"], f["outcome"]) for f in files] == [
            ("handbook/a.md", "created"),
            ("handbook/b.bin", "failed"),
            ("handbook/c.md", "created"),
            ("c.md", "created"),
        ]
        assert files[1]["error"]["code"] == "unsupported_format"
        assert done.stderr == ""

    def test_of_a_file_beside_one_that_fails_goes_on(self, folder: Path):
        done = motadata("ingest", str(folder / "b.bin"), str(folder / "a.md"), "-t", "acme")

        assert done.returncode == 1
        assert "1 created, 1 failed" in done.stdout

    def test_of_good_files_leaves_with_zero(self, folder: Path):
        done = motadata("ingest", str(folder / "a.md"), "-t", "acme")

        assert (done.returncode, done.stderr) == (0, "")

    def test_of_a_path_that_does_not_exist_is_wrong_usage(self):
        done = motadata("ingest", "/no/such/path", "-t", "acme")

        assert done.returncode == 2
        assert "/no/such/path" in done.stderr


class TestErrors:
    def test_of_a_missing_tenant_name_option_and_variable(self):
        done = motadata("query", QUESTION)

        assert done.returncode == 2
        assert "--tenant" in done.stderr

    @pytest.mark.parametrize("tenant", ["a b", "*", "x" * 65])
    def test_of_a_malformed_tenant_say_what_fits(self, tenant: str):
        done = motadata("query", QUESTION, "--tenant", tenant)

        assert done.returncode == 2
        assert "invalid_identifier" in done.stderr
        assert "Use 1 to 64 characters" in done.stderr
        assert "Traceback" not in done.stderr

    def test_of_an_absent_component_are_wrong_configuration(self):
        done = motadata("query", QUESTION, "-t", "acme", "--mode", "agent")

        assert done.returncode == 2
        assert "mode_not_available" in done.stderr

    def test_with_json_are_the_problem_of_the_api(self):
        done = motadata("query", " ", "-t", "acme", "--json")

        error = json.loads(done.stdout)["error"]
        assert done.returncode == 2
        assert error["code"] == "configuration_error"
        assert error["remedy"]

    def test_with_debug_show_where_they_came_from(self):
        done = motadata("--debug", "query", QUESTION, "--tenant", "a b")

        assert "Traceback" in done.stderr

    def test_of_a_database_that_is_away_are_told_without_its_password(self):
        with socket.create_server(("127.0.0.1", 0)) as unused:
            port = unused.getsockname()[1]
        url = f"postgresql://app:hunter2@127.0.0.1:{port}/x"

        done = motadata("keys", "list", "-t", "acme", MOTADATA_DATABASE_URL=url)

        assert done.returncode == 1
        assert "database_connection_error" in done.stderr
        assert "hunter2" not in done.stderr
        assert "Traceback" not in done.stderr

    def test_of_a_reader_that_has_left_are_quiet(self):
        reading, writing = os.pipe()
        os.close(reading)
        try:
            done = subprocess.run(
                [sys.executable, *WITH_FAKES, "query", QUESTION, "-t", "acme", "--json"],
                env=environment(),
                stdout=writing,
                stderr=subprocess.PIPE,
                text=True,
                timeout=100,
                check=False,
            )
        finally:
            os.close(writing)

        assert done.returncode == 1
        assert done.stderr == ""


class TestKeys:
    def test_are_made_listed_and_revoked(self, real_database: dict[str, str]):
        created = motadata(
            "keys", "create", "-t", "acme", "--label", "desk", "--json", **real_database
        )
        key_id = json.loads(created.stdout)["key_id"]
        listed = motadata("keys", "list", "-t", "acme", **real_database)
        others = motadata("keys", "revoke", key_id, "-t", "globex", **real_database)
        revoked = motadata("keys", "revoke", key_id, "-t", "acme", **real_database)
        after = motadata("keys", "list", "-t", "acme", "--json", **real_database)

        assert json.loads(created.stdout)["key"].startswith("mtd.acme.")
        assert key_id in listed.stdout
        assert "desk" in listed.stdout
        assert json.loads(created.stdout)["key"] not in listed.stdout
        assert (others.returncode, revoked.returncode) == (1, 0)
        assert [k["revoked_at"] is not None for k in json.loads(after.stdout)["keys"]] == [True]

    def test_alone_go_to_standard_output_so_that_a_shell_can_take_them(
        self, real_database: dict[str, str]
    ):
        done = motadata("keys", "create", "-t", "initech", **real_database)

        assert done.stdout.startswith("mtd.initech.")
        assert len(done.stdout.splitlines()) == 1
        assert "keep it safe" in done.stderr


class TestDoctor:
    def test_finds_a_sound_installation_sound(self, real_database: dict[str, str]):
        done = motadata("doctor", "--json", **real_database)

        checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
        assert done.returncode == 0, done.stdout
        assert checks["database role"]["detail"].endswith("cannot bypass row-level security")
        assert checks["tenant isolation"]["status"] == "ok"
        assert "pgvector 0.8" in checks["database server"]["detail"]
        assert checks["motadata-api"]["status"] == "ok"

    def test_says_what_to_do_about_what_is_wrong(self):
        done = motadata("doctor", MOTADATA_API_MAX_FILES="many")

        assert done.returncode == 1
        assert "fail  settings: MOTADATA_API_MAX_FILES does not fit" in done.stdout
        assert "Correct the variable" in done.stdout

    def test_finds_a_role_that_could_see_every_tenant(self, database_dsns: DatabaseDsns):
        done = motadata("doctor", MOTADATA_DATABASE_URL=database_dsns.administrator)

        assert done.returncode == 1
        assert "fail" in done.stdout


@contextlib.asynccontextmanager
async def serving(
    *arguments: str, **extra: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, dict[str, str]]]:
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, *WITH_FAKES, "serve", "--json", "--port", "0", *arguments),
        env=environment(extra),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert server.stdout is not None
    try:
        async with asyncio.timeout(60):
            line = await server.stdout.readline()
        yield server, json.loads(line)
    finally:
        if server.returncode is None:
            server.kill()
        await server.communicate()


class TestServe:
    @pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
    async def test_answers_with_its_key_and_ends_in_order(
        self, real_database: dict[str, str], kind: signal.Signals
    ):
        tenant = f"acme-{kind.name}"
        async with serving("--with-key", "-t", tenant, **real_database) as (server, said):
            assert said["address"] == f"{said['url']}#key={said['key']}"
            headers = {"authorization": f"Bearer {said['key']}"}
            async with httpx.AsyncClient(base_url=said["url"], headers=headers) as client:
                page = await client.get("/")
                stored = await client.post("/v1/documents", files={"files": ("vpn.md", VPN)})
                asked = await client.post("/v1/query", json={"query": QUESTION})
                forged = await client.get(
                    "/v1/documents", headers={"authorization": headers["authorization"] + "x"}
                )
            server.send_signal(kind)
            async with asyncio.timeout(30):
                _, errors = await server.communicate()

        listed = await asyncio.to_thread(
            motadata, "keys", "list", "-t", tenant, "--json", **real_database
        )
        assert page.status_code == stored.status_code == asked.status_code == 200
        assert asked.json()["answered"] is True
        assert forged.status_code == 401
        assert server.returncode == 0
        assert b"Traceback" not in errors
        assert said["key"].encode() not in errors
        assert json.loads(listed.stdout)["keys"][0]["revoked_at"] is not None

    def test_at_a_port_that_is_taken_says_so(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            done = motadata("serve", "--port", str(taken.getsockname()[1]))

        assert done.returncode == 2
        assert "--port 0 takes a free one" in done.stderr

    def test_with_a_key_for_nobody_is_wrong_usage(self):
        done = motadata("serve", "--with-key")

        assert done.returncode == 2
        assert "--tenant" in done.stderr
