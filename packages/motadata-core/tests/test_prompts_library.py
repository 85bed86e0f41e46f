from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest


pytest.importorskip("jinja2")

from motadata.core.errors import (
    ConfigurationError,
    DeadlineExceededError,
    InvalidIdentifierError,
    PromptError,
    PromptLimitError,
    PromptNotFoundError,
    PromptTemplateError,
    PromptVariableError,
    TenantRequiredError,
)
from motadata.core.observability import configure_observability
from motadata.core.observability._logging import output
from motadata.core.prompts import FilePrompts, PromptLibrary, PromptLimits, PromptTemplate
from motadata.core.tenancy import Identifier, TenantId, tenant_scope


TRIAGE = """+++
description = "Sorts an incident."
required = ["incident"]
trusted = ["product"]
[defaults]
product = "Desk"
+++
{{ product }}: {{ incident }}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, "triage/1.md", "Old {{ incident }}")
    write(tmp_path, "triage/2.md", TRIAGE)
    write(tmp_path, "triage/10.md", "Ten {{ incident }}")
    write(tmp_path, "triage/notes.md", "{{ not a version }}")
    write(tmp_path, "safe/1.md", "Sort this.")
    write(tmp_path, "broken/1.md", "{{ 'a' * 10**9 }}")
    return tmp_path


@pytest.fixture
def library(folder: Path) -> PromptLibrary:
    return PromptLibrary([FilePrompts(folder)])


@pytest.fixture
def lines() -> Iterator[list[Mapping[str, object]]]:
    taken: list[Mapping[str, object]] = []
    configure_observability(sink=taken.append)
    yield taken
    output.configure()


def write(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")


class TestFiles:
    async def test_declaration_in_front_is_read_and_not_shown(self, library: PromptLibrary) -> None:
        template = await library.get("triage", version=2, tenant_id="acme")

        assert (template.name, template.version) == ("triage", 2)
        assert template.description == "Sorts an incident."
        assert (template.required, template.trusted) == ({"incident"}, {"product"})
        assert template.render({"incident": 7}) == "Desk: 7"

    async def test_highest_version_is_active_unless_another_is_named(
        self, library: PromptLibrary, folder: Path
    ) -> None:
        pinned = PromptLibrary([FilePrompts(folder, active={"triage": 1})])

        assert (await library.get("triage", tenant_id="acme")).version == 10
        assert (await pinned.get("triage", tenant_id="acme")).version == 1

    async def test_edited_file_shows_at_once(self, library: PromptLibrary, folder: Path) -> None:
        write(folder, "safe/1.md", "Edited.\r\n")

        assert (await library.render("safe", tenant_id="acme")).text == "Edited."

    async def test_template_that_did_not_change_is_compiled_once(
        self, library: PromptLibrary, folder: Path
    ) -> None:
        first = await library.get("safe", tenant_id="acme")
        assert await library.get("safe", tenant_id="globex") is first

        write(folder, "safe/1.md", "+++\ndescription = 'New.'\n+++\nSort this.")
        assert (await library.get("safe", tenant_id="acme")).description == "New."

    async def test_no_more_than_the_last_templates_are_kept(self, folder: Path) -> None:
        source = FilePrompts(folder)
        for number in range(300):
            write(folder, "safe/1.md", f"Text {number}.")
            await PromptLibrary([source]).get("safe", tenant_id="acme")

        assert len(source._workshop._kept) == 256

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("+++\nrequired = [\n+++\nx", "no TOML"),
            ("+++\nrequired = 3\n+++\nx", "'required'"),
            ("+++\ncolour = 3\n+++\nx", "'colour'"),
            ("+++\nrequired = ['y']\n+++\nx", "does not use: 'y'"),
            ("+++\n[defaults]\nx = 2026-11-22\n+++\n{{ x }}", "holds a date"),
            ("x" * 1_000_001, "exceeds"),
        ],
    )
    async def test_file_that_holds_no_template_is_a_typed_error(
        self, folder: Path, text: str, complaint: str
    ) -> None:
        write(folder, "odd/1.md", text)

        with pytest.raises(PromptError, match=complaint):
            await PromptLibrary([FilePrompts(folder)]).get("odd", tenant_id="acme")

    async def test_file_that_is_not_utf_8_is_a_typed_error(self, folder: Path) -> None:
        (folder / "safe" / "2.md").write_bytes(b"\xff\xfe\x00")

        with pytest.raises(PromptTemplateError, match="not UTF-8"):
            await PromptLibrary([FilePrompts(folder)]).get("safe", tenant_id="acme")

    @pytest.mark.parametrize("name", ["../triage", "a/b", "", ".", "a\x00b"])
    async def test_name_leads_to_no_other_folder(self, library: PromptLibrary, name: str) -> None:
        with pytest.raises(InvalidIdentifierError):
            await library.get(name, tenant_id="acme")


class TestLibrary:
    async def test_prompt_says_where_it_came_from_and_is_not_shown(
        self, library: PromptLibrary
    ) -> None:
        with tenant_scope("acme"):
            prompt = await library.render("triage", {"incident": "hunter2"}, version=1)

        assert "hunter2" in prompt.text
        assert (prompt.name, prompt.version, prompt.is_fallback) == ("triage", 1, False)
        assert "hunter2" not in repr(prompt)

    async def test_nothing_goes_without_a_tenant(self, library: PromptLibrary) -> None:
        with pytest.raises(TenantRequiredError):
            await library.get("safe")
        with pytest.raises(TenantRequiredError):
            await library.render("safe")

    @pytest.mark.parametrize(
        ("name", "version", "complaint"),
        [("absent", None, "no active prompt 'absent'"), ("triage", 7, "version 7 of the prompt")],
    )
    async def test_absent_prompt_is_named(
        self, library: PromptLibrary, name: str, version: int | None, complaint: str
    ) -> None:
        with pytest.raises(PromptNotFoundError, match=complaint) as caught:
            await library.get(name, version=version, tenant_id="acme")
        assert caught.value.tenant_id == "acme"

    async def test_first_source_that_has_it_wins(self, folder: Path) -> None:
        library = PromptLibrary([OwnOf("acme"), FilePrompts(folder)])

        assert (await library.render("safe", tenant_id="acme")).text == "Own."
        assert (await library.render("safe", tenant_id="globex")).text == "Sort this."

    @pytest.mark.parametrize(
        ("name", "variables"),
        [("broken", {}), ("absent", {}), ("triage", {}), ("triage", {"incident": object()})],
    )
    async def test_fallback_takes_over_when_one_fails(
        self,
        library: PromptLibrary,
        lines: list[Mapping[str, object]],
        name: str,
        variables: dict[str, object],
    ) -> None:
        prompt = await library.render(name, variables, fallback="safe", tenant_id="acme")

        assert (prompt.text, prompt.name, prompt.is_fallback) == ("Sort this.", "safe", True)
        assert [(line["event"], line["prompt_name"]) for line in lines] == [
            ("prompt_fell_back", name)
        ]

    async def test_fallback_at_hand_gets_the_variables_that_it_has(
        self, library: PromptLibrary
    ) -> None:
        spare = PromptTemplate("spare", "{{ n }}")

        prompt = await library.render(
            "broken", {"n": 3, "other": 4}, fallback=spare, tenant_id="acme"
        )

        assert prompt.text == "3"

    async def test_fallback_takes_over_when_the_deadline_ended_the_search(self) -> None:
        class OutOfTime:
            async def find(
                self, name: Identifier, version: int | None, tenant: TenantId
            ) -> PromptTemplate | None:
                message = f"There was no time to read {name!r}."
                raise DeadlineExceededError(message, tenant_id=tenant)

        library = PromptLibrary([OutOfTime()])
        spare = PromptTemplate("spare", "Sort this.")

        prompt = await library.render("triage", fallback=spare, tenant_id="acme")

        assert (prompt.text, prompt.is_fallback) == ("Sort this.", True)

    async def test_failing_fallback_and_none_at_all_are_the_error(
        self, library: PromptLibrary
    ) -> None:
        with pytest.raises(PromptNotFoundError, match="nowhere"):
            await library.render("broken", fallback="nowhere", tenant_id="acme")
        with pytest.raises(PromptVariableError) as caught:
            await library.render("triage", tenant_id="acme")
        assert (caught.value.tenant_id, caught.value.missing) == ("acme", ("incident",))

    async def test_event_loop_goes_on_while_a_prompt_is_rendered(self, folder: Path) -> None:
        write(folder, "slow/1.md", "{% for a in x %}{% for b in x %}{% endfor %}{% endfor %}")
        limits = PromptLimits(timeout=0.5, max_work=10**12)
        library = PromptLibrary([FilePrompts(folder, limits=limits)])
        turns = 0

        rendering = asyncio.create_task(
            library.render("slow", {"x": list(range(20_000))}, tenant_id="acme")
        )
        while not rendering.done():
            turns += 1
            await asyncio.sleep(0.001)

        with pytest.raises(PromptLimitError):
            await rendering
        assert turns > 10

    async def test_source_that_does_not_answer_is_left_after_the_timeout(self) -> None:
        library = PromptLibrary([Silent()], timeout=0.05)

        with pytest.raises(PromptError, match=r"within 0\.05 s") as caught:
            await library.get("safe", tenant_id="acme")
        assert caught.value.retryable

    def test_library_of_nothing_is_refused(self) -> None:
        with pytest.raises(ConfigurationError):
            PromptLibrary([])
        with pytest.raises(ConfigurationError):
            PromptLibrary([Silent()], timeout=0)


class OwnOf:
    """A source in which one tenant has one prompt."""

    def __init__(self, tenant: str) -> None:
        self._tenant = tenant

    async def find(
        self, name: Identifier, version: int | None, tenant: TenantId
    ) -> PromptTemplate | None:
        return PromptTemplate(name, "Own.") if tenant == self._tenant else None


class Silent:
    """A source that never answers."""

    async def find(
        self, name: Identifier, version: int | None, tenant: TenantId
    ) -> PromptTemplate | None:
        await asyncio.Event().wait()
        return None
