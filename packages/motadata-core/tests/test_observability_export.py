"""`configure_observability` as a whole, in processes of their own: each has one global provider."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest

from motadata.core.errors import ConfigurationError
from motadata.core.observability import configure_observability, render_metrics


needs_otlp = pytest.mark.skipif(find_spec("opentelemetry.sdk") is None, reason="no extra otlp")
needs_prometheus = pytest.mark.skipif(
    find_spec("prometheus_client") is None, reason="no extra prometheus"
)

COLLECTOR = """
import http.server, threading
class Collector(http.server.BaseHTTPRequestHandler):
    got = {}
    def do_POST(self):
        body = self.rfile.read(int(self.headers['content-length']))
        self.got[self.path] = self.got.get(self.path, b'') + body
        self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Collector)
threading.Thread(target=server.serve_forever, daemon=True).start()
endpoint = f'http://127.0.0.1:{server.server_address[1]}'
"""
USE = """
import asyncio, io, os
from motadata.core.observability import *
jobs = counter('sample.jobs', unit='{job}')
def work():
    with model_call('chat', model='gpt', provider='openai', tenant_id='acme'):
        jobs.add(3, tenant_id='acme')
"""


def run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": "", **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@needs_prometheus
class TestPrometheus:
    def test_page_shows_what_was_counted_even_before_it_was_asked_for(self) -> None:
        page = run(
            f"{USE}work()\n"
            "configure_observability(prometheus=True)\n"
            "work()\n"
            "page = asyncio.run(render_metrics())\n"
            "print(page.content_type)\n"
            "print(page.body.decode())\n"
        )

        lines = [line for line in page.splitlines() if 'motadata_tenant_id="acme"' in line]
        assert page.startswith("text/plain; version=")
        assert any(
            line.startswith("sample_jobs_total{") and line.endswith(" 6.0") for line in lines
        )
        (count,) = [
            line for line in lines if "gen_ai_client_operation_duration_seconds_count" in line
        ]
        assert 'gen_ai_request_model="gpt"' in count
        assert count.endswith(" 1.0")
        assert any("_bucket{" in line and 'le="81.92"' in line for line in lines)

    def test_asked_for_twice_it_is_set_up_once(self) -> None:
        count = run(
            f"{USE}"
            "for _ in range(3): configure_observability(prometheus=True)\n"
            "work()\n"
            "page = asyncio.run(render_metrics()).body.decode().splitlines()\n"
            "print(sum(line.startswith('sample_jobs_total{') for line in page))\n"
        )

        assert count == "1"

    def test_environment_can_ask_for_it(self) -> None:
        output = run(
            f"{USE}"
            "configure_observability(stream=io.StringIO())\n"
            "for tenant in ('acme', 'globex', 'initech'): jobs.add(1, tenant_id=tenant)\n"
            "page = asyncio.run(render_metrics()).body.decode()\n"
            "print(*(name in page for name in ('acme', 'globex', 'initech', '(other)', 'desk')))\n",
            MOTADATA_PROMETHEUS="true",
            MOTADATA_SERVICE_NAME="desk",
            MOTADATA_METRIC_TENANTS="1",
            MOTADATA_METRIC_NAMED_TENANTS='["globex"]',
        )

        assert output == "False True False True True"

    def test_provider_of_the_host_stays_and_is_made_scrapable(self) -> None:
        output = run(
            f"{USE}"
            "from opentelemetry import metrics\n"
            "from opentelemetry.sdk.metrics import MeterProvider\n"
            "host = MeterProvider()\n"
            "metrics.set_meter_provider(host)\n"
            "configure_observability(prometheus=True)\n"
            "jobs.add(2, tenant_id='acme')\n"
            "print(metrics.get_meter_provider() is host)\n"
            "print('sample_jobs_total' in asyncio.run(render_metrics()).body.decode())\n"
        )

        assert output.split() == ["True", "True"]

    def test_page_of_a_thousand_tenants_leaves_the_loop_free_and_is_short(self) -> None:
        output = run(
            f"{USE}"
            "import time\n"
            "configure_observability(prometheus=True)\n"
            "sizes = histogram('sample.sizes', unit='s', boundaries=list(range(15)))\n"
            "for n in range(1000): sizes.record(n % 15, tenant_id=f't{n}')\n"
            "async def main():\n"
            "    ticks = 0\n"
            "    rendering = asyncio.create_task(render_metrics())\n"
            "    while not rendering.done():\n"
            "        ticks += 1\n"
            "        await asyncio.sleep(0)\n"
            "    page = (await rendering).body.decode()\n"
            "    print(ticks > 1, page.count('sample_sizes_seconds_count{') <= 101)\n"
            "asyncio.run(main())\n"
        )

        assert output == "True True"


async def test_metrics_that_nobody_asked_for_cannot_be_rendered() -> None:
    with pytest.raises(ConfigurationError, match="prometheus=True"):
        await render_metrics()


@pytest.mark.parametrize(
    ("blocked", "said", "extra"),
    [
        ("prometheus_client", "prometheus=True", "prometheus"),
        ("opentelemetry.exporter", "prometheus=True", "prometheus"),
        ("opentelemetry.exporter", "otlp_endpoint='http://127.0.0.1:1'", "otlp"),
        ("opentelemetry.sdk", "otlp_endpoint='http://127.0.0.1:1'", "otlp"),
    ],
)
def test_extra_that_is_absent_is_named(blocked: str, said: str, extra: str) -> None:
    output = run(
        f"import sys\nsys.modules[{blocked!r}] = None\n"
        "from motadata.core.errors import MissingExtraError\n"
        "from motadata.core.observability import configure_observability\n"
        "try:\n"
        f"    configure_observability({said})\n"
        "except MissingExtraError as error:\n"
        "    print(error)\n"
    )

    assert f"pip install 'motadata-core[{extra}]'" in output


@needs_otlp
class TestOtlp:
    def test_shutdown_sends_what_is_held(self) -> None:
        output = run(
            f"{COLLECTOR}{USE}"
            "configure_observability(otlp_endpoint=endpoint, service_name='desk')\n"
            "work()\n"
            "shutdown_observability()\n"
            "shutdown_observability()\n"
            "for path in ('/v1/traces', '/v1/metrics'):\n"
            "    body = Collector.got[path]\n"
            "    print(path, b'desk' in body, b'acme' in body, b'gen_ai.request.model' in body)\n"
            "print(b'sample.jobs' in Collector.got['/v1/metrics'])\n"
        )

        assert output.splitlines() == [
            "/v1/traces True True True",
            "/v1/metrics True True True",
            "True",
        ]

    def test_end_of_the_process_sends_what_is_held(self) -> None:
        output = run(
            f"import atexit\n{COLLECTOR}"
            "atexit.register(lambda: print(sorted(Collector.got)))\n"
            f"{USE}"
            "configure_observability(otlp_endpoint=endpoint)\n"
            "work()\n"
        )

        assert output == "['/v1/metrics', '/v1/traces']"

    def test_environment_can_name_the_collector(self) -> None:
        output = run(
            f"{COLLECTOR}{USE}"
            "os.environ['MOTADATA_OTLP_ENDPOINT'] = endpoint\n"
            "configure_observability()\n"
            "work()\n"
            "shutdown_observability()\n"
            "print(sorted(Collector.got))\n"
        )

        assert output == "['/v1/metrics', '/v1/traces']"

    def test_collector_that_is_gone_holds_the_end_up_for_no_longer_than_the_timeout(self) -> None:
        output = run(
            f"{USE}"
            "import logging, socket, time\n"
            "logging.disable()\n"
            "mute = socket.create_server(('127.0.0.1', 0))\n"
            "endpoint = f'http://127.0.0.1:{mute.getsockname()[1]}'\n"
            "configure_observability(otlp_endpoint=endpoint)\n"
            "work()\n"
            "started = time.monotonic()\n"
            "shutdown_observability(timeout=1.0)\n"
            "print(time.monotonic() - started < 3)\n"
        )

        assert output == "True"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MOTADATA_LOG_LEVEL", "LOUD"),
        ("MOTADATA_METRIC_TENANTS", "-1"),
        ("MOTADATA_METRIC_INTERVAL", "0"),
        ("MOTADATA_METRIC_NAMED_TENANTS", '["a b"]'),
    ],
)
def test_environment_that_does_not_fit_is_an_error_that_names_the_variable(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigurationError, match=name):
        configure_observability()
