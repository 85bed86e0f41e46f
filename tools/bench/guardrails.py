"""Measure the guardrails: what they cost, what they let through, and how much of a stream waits.

    python tools/bench/guardrails.py [--trials 10000]

Prints tables; the exit status says whether it ran. CPU times are the least and the first quartile
of the rounds. The peer of the rules' cost is the combined expression for log lines
(`hide_personal_data`), which looks for five kinds of personal data only.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import string
import sys
import time
from collections.abc import Callable
from functools import partial
from statistics import quantiles

from asked import asked

from motadata.core.observability import hide_personal_data
from motadata.core.protocols import STREAM_WINDOW, GuardedText
from motadata.gateway import CallNotes
from motadata.gateway.guardrails import (
    CompliancePack,
    ContentFilter,
    GuardrailPolicy,
    InjectionSignal,
    Length,
    PersonalData,
    Secrets,
)
from motadata.gateway.guardrails._streaming import WindowedAnswer


ROUNDS = 25
KINDS = ["email", "card", "iban", "ip", "national_id", "phone"]
PROSE = (
    "The VPN client of the finance team loses its connection every morning at about 09:15, when "
    "the gateway in Pune renews its certificate. Restarting the client helps for an hour. The "
    "service desk has reproduced the fault on two laptops (LT-20431 and LT-20977) and sees error "
    "0x800704C9 in the log. A change of the renewal window to 03:00 was approved by the network "
    "lead on 2026-11-20; incident INC0012345 stays open until it is confirmed that nobody was "
    "disconnected on three mornings in a row. Users were told to use the web portal meanwhile, "
    "and the portal has been scaled to four instances for the time."
)


def policy() -> GuardrailPolicy:
    rules = [
        PersonalData("mask", kinds=KINDS),
        Secrets("mask"),
        ContentFilter("refuse"),
        InjectionSignal(),
        CompliancePack("security"),
        Length(most=100_000),
        CompliancePack("itil", roles=("answer",)),
    ]
    return GuardrailPolicy(outputs=rules)


def rule_count() -> int:
    return len(KINDS) + len(Secrets.KINDS) + 7 + 5 + 5 + 1 + 8


def timed(work: Callable[[], object], repeats: int) -> float:
    start = time.process_time()
    for _ in range(repeats):
        work()
    return (time.process_time() - start) / repeats * 1e6


async def cost() -> None:
    text = (PROSE * 2)[:600]
    personal = (
        text[:400] + " Mail bob@example.com, card 4111 1111 1111 1111, from 10.1.2.3. " + text[:130]
    )
    made = policy()
    print(f"\n{rule_count()} rules, CPU µs a text\n")
    print(f"{'text':<34}{'min':>8}{'p25':>8}{'peer min':>10}{'ratio':>7}")
    for name, body in (
        ("600 characters of prose", text),
        ("600 with personal data", personal[:600]),
        ("600, not ASCII", ("é" + text)[:600]),
    ):
        about = GuardedText(text=body, stage="output", tenant_id="acme", role="answer")
        ours, peer = [], []
        for _ in range(ROUNDS):
            start = time.process_time()
            for _ in range(40):
                await made.output_chain.find(about)
            ours.append((time.process_time() - start) / 40 * 1e6)
            peer.append(timed(partial(hide_personal_data, body), 40))
        least, quarter = min(ours), quantiles(ours, n=4)[0]
        print(f"{name:<34}{least:>8.0f}{quarter:>8.0f}{min(peer):>10.0f}{least / min(peer):>7.2f}")
        if body is text:
            asked("rules, at least 40, on 600 characters", least, most=250, unit="µs")


async def chunk_cost() -> None:
    print("\nA streamed chunk of 4 characters, CPU µs\n")
    await one_chunk("all rules", policy())
    rules = [PersonalData("mask"), Secrets("mask")]
    await one_chunk("personal data and secrets", GuardrailPolicy(outputs=rules))


async def one_chunk(name: str, made: GuardrailPolicy) -> None:
    pieces = [PROSE[at : at + 4] for at in range(0, len(PROSE), 4)] * 4
    costs = []
    for _ in range(ROUNDS):
        about = GuardedText(text="", stage="output", tenant_id="acme", role="answer")
        stream = WindowedAnswer(made.window_chain, about, CallNotes())
        start = time.process_time()
        for piece in pieces:
            await stream.take(piece)
        costs.append((time.process_time() - start) / len(pieces) * 1e6)
    print(f"{name:<34}{min(costs):>8.1f}{quantiles(costs, n=4)[0]:>8.1f}")


def secret_of(rng: random.Random) -> str:
    letters = string.ascii_letters + string.digits
    word = "".join(rng.choices(letters, k=rng.randint(20, 80)))
    local = "".join(rng.choices(string.ascii_lowercase + string.digits, k=rng.randint(1, 64)))
    host = "".join(rng.choices(string.ascii_lowercase, k=rng.randint(3, 40)))
    digits = "".join(rng.choices(string.digits, k=40))
    return rng.choice(
        [
            f"{local}@{host}.example.com",
            "4111 1111 1111 1111",
            "5500-0055-5555-5559",
            "GB82 WEST 1234 5698 7654 32",
            "DE89370400440532013000",
            f"10.{rng.randint(0, 255)}.{rng.randint(0, 255)}.7",
            "2001:db8:0:1:1:1:1:1",
            "+49 30 901820",
            "529.982.247-25",
            f"sk-proj-{word}",
            f"ghp_{word}",
            "AKIA" + "".join(rng.choices(string.ascii_uppercase + string.digits, k=16)),
            f"eyJhbGciOiJIUzI1NiJ9.{word}.{word}",
            f"-----BEGIN RSA PRIVATE KEY-----\n{word}\n{digits}\n-----END RSA PRIVATE KEY-----",
        ]
    )


async def leaks(trials: int) -> None:
    rng = random.Random(7)  # noqa: S311 - repeatable trials, no secret
    made = GuardrailPolicy(outputs=[PersonalData("mask", kinds=KINDS), Secrets("mask")])
    leaked = most = altered = 0
    for _ in range(trials):
        secret = secret_of(rng)
        before, behind = PROSE[: rng.randint(0, 200)], PROSE[: rng.randint(0, 120)]
        text = f"{before} {secret} {behind}"
        about = GuardedText(text="", stage="output", tenant_id="acme", role="answer")
        stream = WindowedAnswer(made.window_chain, about, CallNotes())
        said, at = [], 0
        while at < len(text):
            step = rng.choice([1, 1, 2, 3, 5, 8, 20])
            said.append(await stream.take(text[at : at + step]))
            most = max(most, stream.waiting)
            at += step
        said.append(await stream.finish())
        shown = "".join(said)
        leaked += any(secret[i : i + 8] in shown for i in range(max(1, len(secret) - 7)))
        whole = GuardedText(text=text, stage="output", tenant_id="acme", role="answer")
        expected = await made.output_chain.apply(whole, CallNotes(), lambda one, _text: one.mark)
        altered += shown != expected
    print(f"\n{trials} streams cut at random, one secret in each\n")
    print(f"leaked {leaked}   most characters waiting {most} (window {STREAM_WINDOW})")
    print(f"shown otherwise than the whole text {altered}")
    asked("secrets that leaked from streams", leaked, most=0)
    asked("characters held back", most, most=64)


async def hostile() -> None:
    made = policy()
    units = {
        "a": "a", "@": "@", "a@a.": "a@a.", "1 ": "1 ", "4": "4", "1.": "1.", "a:": "a:",
        "GB82": "GB82 ", "sk-": "sk-", "eyJ": "eyJhbGci", "BEGIN": "-----BEGIN ", "+1 ": "+1 (2) ",
        "kill": "kill ", "://": "://a:", "password=": "password=", "# a:": "# a: b\n", "{": "{",
        "combining": "e\u0301", "uuid": "41111111-1111-4111-8111-111111111111 ",
    }  # fmt: skip
    print("\nHostile texts, CPU µs a character, 20,000 and 80,000 characters (ratio ~1: linear)\n")
    worst = 0.0
    for name, unit in units.items():
        figures = []
        for size in (20_000, 80_000):
            text = (unit * size)[:size]
            about = GuardedText(text=text, stage="output", tenant_id="acme", role="answer")
            start = time.process_time()
            await made.output_chain.find(about)
            figures.append((time.process_time() - start) / size * 1e6)
        worst = max(worst, figures[1] / figures[0])
        print(f"{name:<12}{figures[0]:>8.2f}{figures[1]:>8.2f}{figures[1] / figures[0]:>7.2f}")
    asked("hostile texts, four times as long, a character", worst, most=2)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=10_000)
    arguments = parser.parse_args()

    async def run() -> None:
        await cost()
        await chunk_cost()
        await hostile()
        await leaks(arguments.trials)

    asyncio.run(run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
