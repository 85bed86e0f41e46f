"""The console page in a real Chromium, against a real `motadata serve`: nothing here is a fake.

Screenshots for people to look at are left in `test-results/`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import zlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest


playwright_api = pytest.importorskip("playwright.async_api")

RESULTS = Path(__file__).parent.parent / "test-results"
BROWSER = os.environ.get("MOTADATA_CHROMIUM") or shutil.which("chromium")
ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
VIEWPORT = {"width": 1280, "height": 860}

VPN = """# Reset a VPN token

🔑 This article is for everybody who works remotely. 🌍

## When it is needed

A token stops working when the phone that holds it is replaced.

## How it is done

The VPN token is reset in the self-service portal under Security, and the new token arrives within
fifteen minutes.

Whoever has no access to the portal calls the service desk at extension 4400.
"""
PRINTER = """<!doctype html><html><head><title>Clear a paper jam</title></head><body>
<h1>Clear a paper jam</h1>
<p>A paper jam is cleared by opening tray two of the printer and pulling the sheet towards you.</p>
</body></html>"""
HOSTILE = """# Maintenance window <img src=x onerror="window.pwned = 1">

</script><script>window.pwned = 1</script>

The maintenance window of the mainframe is <img src=x onerror="window.pwned = 1"> on Sunday at six.
"""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(300),
    pytest.mark.skipif(BROWSER is None, reason="no Chromium: name one in MOTADATA_CHROMIUM"),
]


@dataclass
class Console:
    """The page under test and what went wrong on it."""

    page: playwright_api.Page
    address: str
    troubles: list[str] = field(default_factory=list)

    async def drop(self, *files: tuple[str, str]) -> None:
        """Drop files of the given names and texts onto the page, as a person would."""
        transfer = await self.page.evaluate_handle(
            """files => {
                const transfer = new DataTransfer();
                for (const [name, text] of files) transfer.items.add(new File([text], name));
                return transfer;
            }""",
            [list(file) for file in files],
        )
        for event in ("dragenter", "dragover", "drop"):
            await self.page.dispatch_event("#drop", event, {"dataTransfer": transfer})

    async def ask(self, question: str) -> playwright_api.Locator:
        """Ask and return the card of the answer."""
        await self.page.fill("#question", question)
        await self.page.press("#question", "Enter")
        card = self.page.locator("article.answer").first
        await playwright_api.expect(card.locator(".asked")).to_have_text(question)
        await playwright_api.expect(card).not_to_have_attribute("aria-busy", "true", timeout=60_000)
        return card

    async def shoot(self, name: str) -> None:
        RESULTS.mkdir(exist_ok=True)
        await self.page.screenshot(path=RESULTS / f"console-{name}.png")


@pytest.fixture(scope="module")
def data_directory() -> Iterator[Path]:
    # Not pytest's own folder: a server that root starts runs under an account that cannot enter it.
    folder = Path(tempfile.mkdtemp(prefix="motadata-console-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.asynccontextmanager
async def serving(data_directory: Path, tenant: str) -> AsyncIterator[dict[str, str]]:
    environment = {**os.environ, "MOTADATA_DATA_DIRECTORY": str(data_directory)}
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "motadata.api.cli", "serve", "--json", "--with-key"),
        *("--tenant", tenant, "--port", "0"),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(120):
            line = await server.stdout.readline()
        yield json.loads(line)
    finally:
        if server.returncode is None:
            server.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            await server.communicate()
    assert server.returncode == 0


@pytest.fixture
async def console(data_directory: Path, request: pytest.FixtureRequest) -> AsyncIterator[Console]:
    # A tenant of its own for each test: what one stores, the others do not see.
    tenant = f"acme-{zlib.crc32(request.node.name.encode()):08x}"
    async with (
        serving(data_directory, tenant) as served,
        playwright_api.async_playwright() as playwright,
    ):
        browser = await playwright.chromium.launch(executable_path=BROWSER, args=list(ARGUMENTS))
        page = await browser.new_page(viewport=VIEWPORT, locale="en-GB")
        console = Console(page, served["address"])
        page.on("pageerror", lambda error: console.troubles.append(f"error: {error}"))
        page.on(
            "console",
            lambda message: (
                console.troubles.append(f"console: {message.text}")
                if message.type in ("error", "warning")
                else None
            ),
        )
        page.on(
            "request",
            lambda asked: (
                None
                if asked.url.startswith(served["url"])
                else console.troubles.append(f"request to elsewhere: {asked.url}")
            ),
        )
        await page.add_init_script(
            "document.addEventListener('securitypolicyviolation',"
            " event => console.error(`policy: ${event.violatedDirective} ${event.sourceFile}`))"
        )
        await page.goto(console.address)
        yield console
        await browser.close()


async def test_person_drops_files_asks_and_sees_the_cited_passage_in_its_place(console: Console):
    page, expect = console.page, playwright_api.expect
    await expect(page.locator("#workspace")).to_be_visible()
    await expect(page.locator("#tenant-name")).to_contain_text("acme-")
    assert "#" not in page.url, "the key stays in the address bar"
    await expect(page.locator("#documents-empty")).to_be_visible()
    await console.shoot("empty")

    await console.drop(("vpn.md", VPN), ("printer.html", PRINTER))

    uploads = page.locator("#uploads li")
    await expect(uploads).to_have_count(2)
    await expect(page.locator("#uploads li[data-stage=done]")).to_have_count(2, timeout=60_000)
    await expect(uploads.first.locator(".stage")).to_contain_text("Added")
    await expect(page.locator("#document-list li")).to_have_count(2)
    await console.shoot("uploaded")

    card = await console.ask("Where is the VPN token reset?")

    await expect(card.locator(".answer-text")).to_contain_text("self-service portal")
    marks = card.locator(".answer-text a.mark")
    await expect(marks.first).to_have_text("1")
    await console.shoot("answer-light")

    await marks.first.click()

    passage = page.locator("#passage mark")
    await expect(page.locator("#passage-title")).to_have_text("Reset a VPN token")
    await expect(passage.first).to_be_in_viewport()
    marked = " ".join("".join(await passage.all_inner_texts()).split())
    quoted = await card.locator(".quote").first.inner_text()
    assert marked == " ".join(quoted.split()), "the mark is not where the quote stands"
    assert "self-service portal" in marked
    await console.shoot("passage-light")

    await page.emulate_media(color_scheme="dark")
    await console.shoot("passage-dark")
    await page.keyboard.press("Escape")
    await expect(page.locator("#passage")).to_be_hidden()
    await console.shoot("answer-dark")
    await page.emulate_media(color_scheme="light")
    await page.set_viewport_size({"width": 390, "height": 844})
    await console.shoot("answer-narrow")
    width = await page.evaluate("document.documentElement.scrollWidth")
    assert width <= 390, "the page scrolls sideways on a narrow screen"
    await marks.first.click()
    await expect(passage.first).to_be_in_viewport()
    await console.shoot("passage-narrow")
    assert console.troubles == []


async def test_hostile_document_is_shown_as_text(console: Console):
    page, expect = console.page, playwright_api.expect
    await console.drop(('<img src=x onerror="window.pwned=1">.md', HOSTILE))
    await expect(page.locator("#uploads li[data-stage=done]")).to_have_count(1, timeout=60_000)

    card = await console.ask("When is the maintenance window of the mainframe?")
    await card.locator("a.mark").first.click()

    text = page.locator("#passage .document-text")
    await expect(text).to_contain_text('<img src=x onerror="window.pwned = 1">')
    await expect(text).to_contain_text("</script><script>")
    await expect(page.locator("#passage img, #answers img, #document-list img")).to_have_count(0)
    assert await page.evaluate("window.pwned") is None
    await console.shoot("hostile")
    assert console.troubles == []


async def test_file_that_cannot_be_read_says_why_and_the_others_go_on(console: Console):
    page, expect = console.page, playwright_api.expect

    await console.drop(("empty.txt", ""), ("cut.pdf", "%PDF-1.7 and no more"), ("vpn.md", VPN))

    await expect(page.locator("#uploads li[data-stage=failed]")).to_have_count(2, timeout=60_000)
    await expect(page.locator("#uploads li[data-stage=done]")).to_have_count(1, timeout=60_000)
    for row in await page.locator("#uploads li[data-stage=failed] .problem").all():
        assert len(await row.inner_text()) > 20
    await console.shoot("failures")
    # A refused request is an error to the browser's console, and nothing else is.
    assert all("the server responded with a status of 4" in line for line in console.troubles)


async def test_question_without_an_answer_gets_none(console: Console):
    await console.drop(("vpn.md", VPN))
    await playwright_api.expect(console.page.locator("#document-list li")).to_have_count(
        1, timeout=60_000
    )

    card = await console.ask("How deep is the Mariana Trench?")

    await playwright_api.expect(card).to_have_attribute("data-answered", "false")
    await playwright_api.expect(card.locator(".citations")).to_have_count(0)
    await console.shoot("unanswered")
    assert console.troubles == []


async def test_document_is_removed_by_keyboard_alone_after_a_second_press(console: Console):
    page, expect = console.page, playwright_api.expect
    await console.drop(("vpn.md", VPN))
    rows = page.locator("#document-list li")
    await expect(rows).to_have_count(1, timeout=60_000)
    button = rows.first.locator("button.danger")

    await button.focus()
    await page.keyboard.press("Enter")
    await expect(button).to_have_text("Really remove?")
    await expect(rows).to_have_count(1)
    await page.keyboard.press("Enter")

    await expect(rows).to_have_count(0)
    await expect(page.locator("#documents-empty")).to_be_visible()
    assert console.troubles == []


async def test_wrong_key_is_refused_and_a_right_one_opens(console: Console):
    page, expect = console.page, playwright_api.expect
    right = console.address.partition("#key=")[2]
    await page.click("#leave")
    await expect(page.locator("#gate")).to_be_visible()
    await console.shoot("gate")

    await page.fill("#key", right[:-1] + ("a" if right[-1] != "a" else "b"))
    await page.press("#key", "Enter")
    await expect(page.locator("#key-error")).to_contain_text("not valid")
    await page.fill("#key", right)
    await page.press("#key", "Enter")

    await expect(page.locator("#documents-empty")).to_be_visible()
    await page.reload()
    await expect(page.locator("#workspace")).to_be_visible()
    assert all("status of 401" in line for line in console.troubles)
