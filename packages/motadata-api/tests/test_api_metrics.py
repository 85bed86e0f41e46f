"""`GET /metrics`, in processes of their own: each has one global meter provider."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest
from pydantic import SecretStr, ValidationError

from motadata.api import ApiSettings


CODE = """
import asyncio, httpx, io
from motadata.api import create_app
from motadata.core.observability import configure_observability
from motadata.core.platform import create_platform

TOKEN = 'scrape-' + 'x' * 20

async def main():
    configure_observability(prometheus=True, stream=io.StringIO())
    for environment in ({}, {'MOTADATA_API_METRICS_TOKEN': TOKEN}):
        app = create_app(create_platform(environment, components=[]))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url='http://api') as client:
            for authorization in ('', 'Bearer mtd.acme.key', f'Bearer {TOKEN}é', f'Bearer {TOKEN}'):
                headers = {'authorization': authorization.encode('latin-1')}
                response = await client.get('/metrics', headers=headers)
                print(response.status_code, response.headers['content-type'].split(';')[0])
            documented = (await client.get('/openapi.json')).json()['paths']
            print('/metrics' in documented)
    lines = response.text.splitlines()
    print(any(
        line.startswith('http_server_request_duration_seconds_count{')
        and 'http_response_status_code="401"' in line and 'http_route="/metrics"' in line
        for line in lines
    ))

asyncio.run(main())
"""


@pytest.mark.skipif(find_spec("prometheus_client") is None, reason="no extra prometheus")
def test_metrics_are_shown_to_the_scraper_alone_and_only_where_it_has_a_token() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        *(["404 application/json"] * 4),
        "False",
        *(["401 application/json"] * 3),
        "200 text/plain",
        "True",
        "True",
    ]


def test_token_that_could_be_guessed_is_refused() -> None:
    with pytest.raises(ValidationError):
        ApiSettings(metrics_token=SecretStr("short"))
