"""What the codecs cost beside Python's json and the bare libraries, in one run.

    python tools/bench/codec.py [--rounds 15] [--hostile 50000]

Microseconds of CPU a call: the best of the rounds, and the round at the quarter. All take turns in
each round, so that a busy moment of the machine falls on all. A message is a task of about 2 KB.
`--hostile` decodes that many damaged and invented inputs with each codec instead, and prints how
they ended; an end other than a value or a CodecError ends the run with a traceback.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import msgpack  # type: ignore[import-untyped]  # its wheel carries no types
import numpy as np
from asked import asked

from motadata.core.codec import JsonCodec, MessagePackCodec, ProtobufCodec
from motadata.core.errors import CodecError
from motadata.core.models import Answer, Citation, Usage
from motadata.core.protocols import Codec


MESSAGE = {
    "v": 1,
    "id": "01J9Z8K7QW3E5R6T7Y8U9I0P1A",
    "type": "agent.task",
    "from": "triage",
    "to": "network-ops",
    "tenant": "acme-prod",
    "trace": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "ts": 1767225600.123456,
    "deadline_ms": 30000,
    "attempt": 2,
    "stream": False,
    "parent": None,
    "payload": {
        "ticket": {
            "id": 88213,
            "subject": "VPN drops every 20 minutes",
            "priority": "P2",
            "status": "open",
            "body": "Since the gateway upgrade on Friday the VPN client disconnects. " * 9,
            "tags": ["vpn", "network", "remote", "gateway-upgrade"],
            "requester": {"id": 5521, "name": "A. Example", "vip": False},
        },
        "tools": [
            {"name": name, "args": {"limit": 10, "query": "vpn disconnect", "threshold": 0.62}}
            for name in ("kb_search", "cmdb_lookup", "change_log")
        ],
        "history": [
            {"role": "user", "content": f"Checked the keep-alive, it is {turn} s.", "tokens": turn}
            for turn in range(6)
        ],
        "usage": {"prompt_tokens": 812, "completion_tokens": 133, "cost_usd": 0.002417},
    },
}
VECTOR = np.random.default_rng(7).normal(0, 0.05, 384).astype("<f4")
_CITATION = Citation("vpn", "VPN", "vpn.md", 3, 1, "Tokens", 10, 42, "Reset it.", 0.75)
ANSWER = Answer("q", "a [1]", (_CITATION, _CITATION), usage=Usage(1, 2, None), trace_id="0" * 32)
CALLS = 400


@dataclass(frozen=True, slots=True)
class Peer:
    """Something that writes and reads values."""

    name: str
    encode: Callable[[object], bytes]
    decode: Callable[[bytes], object]


def main() -> None:
    """Measure, or decode what is hostile, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--hostile", type=int, default=0, metavar="INPUTS")
    options = parser.parse_args()
    if options.hostile:
        for name, codec in codecs().items():
            hostile(name, codec, options.hostile)
        return
    ours = [Peer(name, codec.encode, codec.decode) for name, codec in codecs().items()]
    message = compare("message of 2 KB", MESSAGE, [*bare(), *ours], options.rounds)
    compare("list of 384 floats", VECTOR.tolist(), [*bare(), *ours], options.rounds)
    raw = Peer("numpy tobytes, frombuffer", _bytes_of, lambda data: np.frombuffer(data, "<f4"))
    vector = compare("vector of 384 float32", VECTOR, [raw, *ours], options.rounds)
    compare("message with such a vector", {"id": 7, "vector": VECTOR}, ours, options.rounds)
    compare("record: an answer with two citations", ANSWER, ours, options.rounds)
    json_alone = sum(message["json"])
    for name in ("codec msgpack fast", "codec json fast"):
        if name in message:
            ratio = sum(message[name]) / json_alone
            asked(f"message, {name}, of Python's json", ratio, most=1 / 3)
    name = "codec msgpack fast" if "codec msgpack fast" in vector else "codec msgpack plain"
    for way, least in zip(("written", "read"), vector[name], strict=True):
        asked(f"vector, {name}, {way}", least, most=2, unit="µs")


def codecs() -> dict[str, Codec]:
    """Return our codecs by the names of the table, those whose extras are installed."""
    found: dict[str, Codec] = {
        "codec json plain": JsonCodec(engine="plain"),
        "codec msgpack plain": MessagePackCodec(engine="plain"),
    }
    if find_spec("ormsgpack") and find_spec("msgspec"):
        found["codec json fast"] = JsonCodec(engine="fast")
        found["codec msgpack fast"] = MessagePackCodec(engine="fast")
    if find_spec("google") and find_spec("google.protobuf"):
        found["codec protobuf"] = ProtobufCodec()
    return found


def bare() -> list[Peer]:
    """Return the libraries alone; Python's json, the yardstick, is the first."""
    peers = [
        Peer("json", lambda value: json.dumps(value, separators=(",", ":")).encode(), json.loads),
        Peer("msgpack alone", msgpack.packb, msgpack.unpackb),
    ]
    if find_spec("ormsgpack") and find_spec("msgspec"):
        import msgspec
        import ormsgpack

        coder, decoder = msgspec.json.Encoder(), msgspec.json.Decoder()
        peers.append(Peer("msgspec.json alone", coder.encode, decoder.decode))
        peers.append(Peer("ormsgpack alone", ormsgpack.packb, ormsgpack.unpackb))
    return peers


def compare(
    title: str, value: object, peers: list[Peer], rounds: int
) -> dict[str, tuple[float, float]]:
    """Print what each peer takes for one value, and its ratio to the first; return the least."""
    times: dict[str, tuple[list[float], list[float]]] = {peer.name: ([], []) for peer in peers}
    for _ in range(rounds):
        for peer in peers:
            data = peer.encode(value)
            writing, reading = times[peer.name]
            writing.append(_microseconds(peer.encode, value))
            reading.append(_microseconds(peer.decode, data))
    print(f"\n{title}{'encode':>37} {'decode':>8} {'both':>8} {'p25':>8}  ratio of both, p25")
    first: tuple[float, float] | None = None
    for name, (writing, reading) in times.items():
        both = [encode + decode for encode, decode in zip(writing, reading, strict=True)]
        quarter = statistics.quantiles(both, n=4)[0] if len(both) > 1 else both[0]
        first = first or (min(writing) + min(reading), quarter)
        print(
            f"  {name:{len(title) + 26}} {min(writing):8.2f} {min(reading):8.2f}"
            f" {min(writing) + min(reading):8.2f} {quarter:8.2f}"
            f"  {(min(writing) + min(reading)) / first[0]:.2f}, {quarter / first[1]:.2f}"
        )
    return {name: (min(writing), min(reading)) for name, (writing, reading) in times.items()}


def hostile(name: str, codec: Codec, inputs: int) -> None:
    """Decode damaged encodings and inventions, and print how that ended."""
    chance = random.Random(7)  # noqa: S311 - the same inputs in each run are wanted
    valid = [codec.encode(value) for value in (MESSAGE, ANSWER, {"v": VECTOR}, [1, {"$a": 2}])]
    shapes = [b"[", b"{", b'{"a":', b"\x91", b"\x81\xa1a", b"\x08\x07\x42\x7f", b'"\\', b"\xdd\xff"]
    ends: Counter[str] = Counter()
    started = time.process_time()
    for _ in range(inputs):
        data = bytearray(chance.choice(valid))
        kind = chance.random()
        if kind < 0.6:
            for _ in range(chance.randint(1, 4)):
                data[chance.randrange(len(data))] = chance.randrange(256)
        elif kind < 0.8:
            del data[chance.randrange(len(data)) :]
        elif kind < 0.9:
            data = bytearray(chance.choice(shapes) * chance.randint(1, 20_000))
        else:
            data = bytearray(chance.randbytes(chance.randint(0, 60)))
        try:
            codec.decode(bytes(data))
        except CodecError:
            ends["refused"] += 1
        else:
            ends["decoded"] += 1
    seconds = time.process_time() - started
    print(f"{name:24} {inputs:,} inputs in {seconds:.1f} s: {dict(ends)}")


def _microseconds(call: Callable[..., object], argument: object) -> float:
    started = time.process_time()
    for _ in range(CALLS):
        call(argument)
    return (time.process_time() - started) / CALLS * 1e6


def _bytes_of(value: object) -> bytes:
    return np.asarray(value).tobytes()


if __name__ == "__main__":
    main()
