"""The files of the page: what they may do, and that they need nothing from elsewhere."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from conftest import Service


async def test_page_loads_everything_it_names_from_this_server(service: Service):
    page = await service.client.get("/")
    named = re.findall(r'(?:href|src)="([^"#]+)"', page.text)

    loaded = {path: await service.client.get(path) for path in named}

    assert page.headers["content-type"].startswith("text/html")
    assert {"/console/console.css", "/console/main.js"} <= set(named)
    assert all(response.status_code == 200 for response in loaded.values())
    imported = {
        name
        for path, response in loaded.items()
        if path.endswith(".js")
        for name in re.findall(r'from "\./([^"]+)"', response.text)
    }
    for name in imported:
        script = await service.client.get(f"/console/{name}")
        assert script.headers["content-type"].startswith("text/javascript")


async def test_page_may_run_its_own_scripts_only(service: Service):
    page = await service.client.get("/")

    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert "require-trusted-types-for 'script'" in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|style=", page.text)


async def test_page_has_no_way_to_turn_text_into_markup(service: Service):
    scripts = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function"
    )
    names = ("main", "api", "ask", "documents", "dom", "passage", "text", "uploads")

    for name in names:
        script = await service.client.get(f"/console/{name}.js")
        assert script.status_code == 200
        assert not scripts.search(script.text), name


async def test_only_the_files_of_the_page_are_served(service: Service):
    for path in (
        "/console/",
        "/console/index.html",
        "/console/../app.py",
        "/console/%2e%2e/app.py",
    ):
        assert (await service.client.get(path)).status_code == 404


async def test_answers_of_the_api_are_kept_by_nobody(service: Service):
    response = await service.client.get("/v1/documents", headers=service.headers())

    assert response.headers["cache-control"] == "no-store"
    assert response.headers["referrer-policy"] == "no-referrer"
