"""Each fault of the proxy as a client sees it, the same for one seed, and no task left behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motadata.core.testing.fault_proxy import FaultProxy, Faults


# These tests break connections.
pytestmark = pytest.mark.usefixtures("drivers_drop_sockets")


PAYLOAD = bytes(range(256)) * 64
PATIENCE = 10.0


@asynccontextmanager
async def echo_server() -> AsyncIterator[tuple[str, int]]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()
    finally:
        server.close()


@asynccontextmanager
async def through(
    faults: Faults | None = None, *, seed: int = 0
) -> AsyncIterator[tuple[FaultProxy, asyncio.StreamReader, asyncio.StreamWriter]]:
    async with echo_server() as target, FaultProxy(target, faults=faults, seed=seed) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        try:
            yield proxy, reader, writer
        finally:
            writer.close()


async def what_comes_back(faults: Faults, *, seed: int, slices: int = 1) -> bytes:
    """Send the payload in so many slices and return all that comes back until a cut or the end."""
    received = bytearray()
    async with through(faults, seed=seed) as (_, reader, writer):
        size = len(PAYLOAD) // slices
        try:
            for start in range(0, len(PAYLOAD), size):
                writer.write(PAYLOAD[start : start + size])
                await writer.drain()
                await asyncio.sleep(0)
            async with asyncio.timeout(PATIENCE):
                while len(received) < len(PAYLOAD) and (data := await reader.read(65536)):
                    received += data
        except ConnectionError:
            pass
    return bytes(received)


async def test_bytes_pass_unchanged_without_faults():
    assert await what_comes_back(Faults(), seed=1) == PAYLOAD


async def test_torn_bytes_arrive_whole_in_the_end_but_in_small_pieces():
    async with through(Faults(torn=3)) as (_, reader, writer):
        writer.write(b"0123456789" * 20)
        first = await asyncio.wait_for(reader.read(65536), PATIENCE)
        assert len(first) < 200
        rest = await asyncio.wait_for(reader.readexactly(200 - len(first)), PATIENCE)
        assert first + rest == b"0123456789" * 20


@pytest.mark.parametrize("towards", ["client", "server"])
async def test_flipped_bits_change_some_bytes_by_one_bit_each(towards: Literal["client", "server"]):
    faults = Faults(flip_every=500, flip_towards=towards)
    received = await what_comes_back(faults, seed=3)
    changed = [a ^ b for a, b in zip(PAYLOAD, received, strict=True) if a != b]
    assert 5 < len(changed) < 100
    assert all(difference.bit_count() == 1 for difference in changed)


async def test_one_seed_flips_the_same_bits_however_the_bytes_were_sliced():
    faults = Faults(flip_every=700, flip_towards="client")
    expected = await what_comes_back(faults, seed=11)
    assert expected != PAYLOAD
    assert await what_comes_back(faults, seed=11, slices=16) == expected
    assert await what_comes_back(faults, seed=12) != expected


async def test_one_seed_cuts_after_the_same_number_of_bytes():
    async def passed(seed: int) -> int:
        faults = Faults(cut_every=4_000, cut_by="close")
        async with through(faults, seed=seed) as (proxy, reader, writer):
            try:
                for start in range(0, len(PAYLOAD), 100):
                    writer.write(PAYLOAD[start : start + 100])
                    await writer.drain()
                async with asyncio.timeout(PATIENCE):
                    while await reader.read(65536):
                        pass
            except ConnectionError:
                pass
            assert proxy.counts.cuts >= 1
            return proxy.counts.bytes_to_server

    assert await passed(21) == await passed(21)
    assert len({await passed(seed) for seed in (22, 23, 24)}) > 1


async def test_a_cut_by_reset_is_an_error_and_one_by_close_an_end():
    async with through() as (proxy, reader, writer):
        writer.write(b"hello")
        assert await asyncio.wait_for(reader.readexactly(5), PATIENCE) == b"hello"
        assert proxy.cut() == 1
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(1), PATIENCE)
    async with through() as (proxy, reader, writer):
        writer.write(b"hello")
        assert await asyncio.wait_for(reader.readexactly(5), PATIENCE) == b"hello"
        proxy.cut(by="close")
        assert await asyncio.wait_for(reader.read(1), PATIENCE) == b""


async def test_latency_and_rate_hold_bytes_up():
    async with through(Faults(latency=0.05)) as (proxy, reader, writer):
        started = time.monotonic()
        writer.write(b"x")
        await asyncio.wait_for(reader.readexactly(1), PATIENCE)
        assert time.monotonic() - started >= 0.1  # each way
        proxy.faults = Faults(bytes_per_second=20_000)
        started = time.monotonic()
        writer.write(b"x" * 4_000)
        await asyncio.wait_for(reader.readexactly(4_000), PATIENCE)
        assert time.monotonic() - started >= 0.2


async def test_a_pause_holds_bytes_and_new_connections_and_loses_none():
    async with through() as (proxy, reader, writer):
        proxy.pause()
        writer.write(b"held")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.1)
        late_reader, late_writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        late_writer.write(b"late")
        proxy.resume()
        assert await asyncio.wait_for(reader.readexactly(4), PATIENCE) == b"held"
        assert await asyncio.wait_for(late_reader.readexactly(4), PATIENCE) == b"late"
        late_writer.close()


async def test_silence_swallows_bytes_and_ends_the_connections_that_lost_some():
    async with through() as (proxy, reader, writer):
        writer.write(b"before")
        assert await asyncio.wait_for(reader.readexactly(6), PATIENCE) == b"before"
        proxy.faults = Faults(silent=True)
        writer.write(b"lost")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.1)
        assert proxy.counts.swallowed == 4
        proxy.faults = Faults()
        writer.write(b"after")
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(1), PATIENCE)


async def test_a_refusing_proxy_resets_new_connections_only():
    async with through() as (proxy, reader, writer):
        writer.write(b"a")
        assert await asyncio.wait_for(reader.readexactly(1), PATIENCE) == b"a"
        proxy.faults = Faults(refuse=True)
        new_reader, new_writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(new_reader.read(1), PATIENCE)
        new_writer.close()
        writer.write(b"b")
        assert await asyncio.wait_for(reader.readexactly(1), PATIENCE) == b"b"


async def test_a_client_is_reset_when_nobody_listens_behind():
    async with echo_server() as target:
        pass
    async with FaultProxy(target) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(1), PATIENCE)
        writer.close()


async def test_a_half_closed_connection_still_brings_the_answer():
    async with through() as (_, reader, writer):
        writer.write(PAYLOAD)
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(-1), PATIENCE) == PAYLOAD


async def test_a_unix_socket_may_be_the_target(tmp_path: Path):
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    path = str(tmp_path / "s")
    server = await asyncio.start_unix_server(greet, path)
    async with server, FaultProxy(path) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        assert await asyncio.wait_for(reader.read(-1), PATIENCE) == b"hello"
        writer.close()


@pytest.mark.parametrize("faults", [Faults(), Faults(silent=True), Faults(latency=60.0)])
async def test_leaving_ends_every_task(faults: Faults):
    before = asyncio.all_tasks()
    async with echo_server() as target:
        async with FaultProxy(target, faults=faults) as proxy:
            streams = [await asyncio.open_connection("127.0.0.1", proxy.port) for _ in range(5)]
            for _, writer in streams:
                writer.write(b"x" * 100)
            async with asyncio.timeout(PATIENCE):
                while proxy.connections < 5:  # noqa: ASYNC110 - nothing tells
                    await asyncio.sleep(0.005)
            proxy.pause()
        assert proxy.connections == 0
        for _, writer in streams:
            writer.close()
    async with asyncio.timeout(PATIENCE):
        while asyncio.all_tasks() - before:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.005)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32), torn=st.integers(1, 900))
async def test_tearing_never_changes_the_stream(seed: int, torn: int):
    assert await what_comes_back(Faults(torn=torn), seed=seed) == PAYLOAD
