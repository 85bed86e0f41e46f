"""The connections of the shared cache: what is written, what is read, and what ends them."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ipaddress
import ssl
import sys
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from motadata.core.cache import RedisCache, create_redis_cache
from motadata.core.cache import _redis_delivery as delivery
from motadata.core.cache import _redis_lanes as lanes
from motadata.core.cache._key import digest, redis_names
from motadata.core.cache._redis_calls import DamagedAnswerError, Reply
from motadata.core.cache._redis_delivery import Counters, Delivery, Found, Place
from motadata.core.cache._redis_reading import Part
from motadata.core.cache._redis_replies import (
    INCOMPLETE,
    MalformedAnswerError,
    PlainReader,
    Reader,
    find_packer,
    make_reader,
    pack_plainly,
)
from motadata.core.cache._redis_slots import Slots
from motadata.core.cache._redis_values import decode_value, encode_value, find_checksum
from motadata.core.cache._redis_wire import Answers, Wire
from motadata.core.embedded import EmbeddedRedis
from motadata.core.errors import CacheError, MissingExtraError


class RefusedError(Exception):
    """What a server said instead of an answer."""

    def __eq__(self, other: object) -> bool:
        """Two are equal that say the same."""
        return isinstance(other, RefusedError) and self.args == other.args

    __hash__ = Exception.__hash__


replies = st.recursive(
    st.none()
    | st.binary(max_size=60)
    | st.integers(-(2**63), 2**63 - 1)
    | st.text("abc DEF", min_size=1, max_size=20).map(RefusedError),
    lambda some: st.lists(some, max_size=5),
    max_leaves=20,
)


def spelled(reply: Reply | Exception) -> bytes:
    """Return an answer as a server sends it."""
    match reply:
        case None:
            return b"$-1\r\n"
        case int():
            return b":%d\r\n" % reply
        case bytes():
            return b"$%d\r\n%b\r\n" % (len(reply), reply)
        case Exception():
            return b"-%b\r\n" % str(reply).encode()
    return b"*%d\r\n" % len(reply) + b"".join(map(spelled, reply))


def read_in_pieces(reader: Reader, data: bytes, cuts: Sequence[int]) -> list[object]:
    ends = sorted({*(cut % (len(data) + 1) for cut in cuts), len(data)})
    read, start = [], 0
    for end in ends:
        reader.feed(data[start:end])
        start = end
        while (answer := reader.gets()) is not INCOMPLETE:
            read.append(answer)
    return read


@given(answers=st.lists(replies, max_size=4), cuts=st.lists(st.integers(0, 10_000), max_size=6))
def test_reader_takes_answers_apart_however_they_are_cut(
    answers: list[Reply | Exception], cuts: list[int]
) -> None:
    for in_python in (True, False):
        reader = make_reader(RefusedError, in_python=in_python)

        assert read_in_pieces(reader, b"".join(map(spelled, answers)), cuts) == answers


def test_reader_knows_what_came_behind_an_answer() -> None:
    for in_python in (True, False):
        reader = make_reader(RefusedError, in_python=in_python)
        reader.feed(b":1\r\n$")

        assert reader.gets() == 1
        assert reader.has_data()


@pytest.mark.parametrize(
    "damaged",
    [b"?1\r\n", b"$x\r\n", b":\r\n", b"*--1\r\n", b"$1\r\nabc", b"$" + b"9" * 99 + b"\r\n"],
)
def test_reader_refuses_what_is_no_answer(damaged: bytes) -> None:
    reader = PlainReader(RefusedError)
    reader.feed(damaged)

    with pytest.raises(MalformedAnswerError):
        reader.gets()


words = st.text(max_size=20) | st.binary(max_size=20) | st.integers(-1_000, 1_000)


@given(command=st.lists(words, min_size=1, max_size=6))
def test_commands_are_written_alike_with_and_without_hiredis(command: list[str | bytes]) -> None:
    assert pack_plainly(command) == find_packer()(command) == hiredis.pack_command(tuple(command))


@given(
    tenant=st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
    namespace=st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
    keys=st.lists(st.text(max_size=9), min_size=1, max_size=5, unique=True),
    generation=st.none() | st.from_regex(r"[0-9a-f]{16}\.[0-9a-f]{16}", fullmatch=True),
)
def test_joined_keys_spell_the_same_command(
    tenant: str, namespace: str, keys: list[str], generation: str | None
) -> None:
    names = redis_names(tenant, namespace)
    part = Part(names, {Place(names, digest(key), 0): [] for key in keys}, generation)

    assert part.packed(pack_plainly) == pack_plainly(part.by_name())


def given_away(data: Reply, mark: int = 7, *, now: int | None = None) -> tuple[object, Counters]:
    """Return what somebody who waits for a value gets of these bytes, and what is counted."""
    place = Place(redis_names("acme", "default"), digest("key"), mark)
    loop = asyncio.new_event_loop()
    future: asyncio.Future[object] = asyncio.Future(loop=loop)
    made = Delivery(on_damage=lambda: None)
    assert made.give({place: [future]}, [data], now=now) == []
    loop.close()
    return future.result(), made.counters


HEADER = b"\x02\x00" + b"1" * 13

values = (
    st.text(max_size=600)
    | st.text("aé€😀", min_size=60, max_size=400)
    | st.integers(0, 70_000).map(lambda size: "x" * size)
    | st.dictionaries(st.text(max_size=5), st.integers())
)


@given(value=values)
def test_values_are_read_alike_where_they_are_handed_out_and_by_the_codec(value: object) -> None:
    data = HEADER + encode_value(value, 7)

    assert given_away(data) == (value, Counters(hits=1))
    assert decode_value(data, 7) == value


@given(value=values, at=st.integers(0, 10_000), bit=st.integers(0, 7), cut=st.integers(0, 80))
def test_damaged_value_is_a_miss(value: object, at: int, bit: int, cut: int) -> None:
    data = bytearray(HEADER + encode_value(value, 7))
    # What the checksum covers, or the version: the time at which it ends may be another.
    covered = [0, *range(len(HEADER), len(data))]
    data[covered[at % len(covered)]] ^= 1 << bit

    assert given_away(bytes(data)) == (None, Counters(misses=1, unreadable=1))
    assert given_away(bytes(data[:-1]))[0] is None
    assert given_away(HEADER[:2] + bytes(data[cut:cut]))[0] is None
    assert given_away(bytes(data), mark=8)[0] is None


def test_text_that_is_none_is_a_miss() -> None:
    encoded = b"\xda\x01\x00" + b"\xff" * 256
    data = HEADER + zlib.crc32(encoded, 7).to_bytes(4, "big") + encoded

    assert given_away(data) == (None, Counters(misses=1, unreadable=1))


def test_value_comes_with_what_it_was_found_as_where_the_time_was_asked() -> None:
    data = HEADER + encode_value("value", 7)

    assert given_away(data, now=1_111_111_111_000)[0] == ("value", Found(data, 111))


@given(data=st.binary(max_size=300), mark=st.integers(0, 2**32 - 1))
def test_checksum_is_the_same_whatever_is_installed(data: bytes, mark: int) -> None:
    assert find_checksum()(data, mark) == zlib.crc32(data, mark)


class Script:
    """A server that says what a test wants."""

    def __init__(self) -> None:
        self.heard = b""
        self.writer: asyncio.StreamWriter | None = None
        self.is_left = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        with contextlib.suppress(ConnectionError):
            while heard := await reader.read(1_000):
                self.heard += heard
        self.is_left.set()
        writer.close()

    def say(self, data: bytes) -> None:
        assert self.writer is not None
        self.writer.write(data)


@pytest.fixture
async def line() -> AsyncIterator[tuple[Script, Wire]]:
    """A server, and a connection to it."""
    script = Script()
    async with await asyncio.start_server(script.serve, "127.0.0.1", 0) as server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        wire = Wire(writer, make_reader(RefusedError), age=0)
        await until(lambda: script.writer is not None)
        yield script, wire
        wire.close()
        await asyncio.wait_for(script.is_left.wait(), 10)


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.001)


def begin(wire: Wire, data: bytes, expected: int) -> asyncio.Future[Answers | Exception]:
    outcome: asyncio.Future[Answers | Exception] = asyncio.get_running_loop().create_future()
    wire.begin(data, expected, outcome.set_result)
    return outcome


async def test_exchange_ends_with_its_last_answer_and_the_next_one_begins(
    line: tuple[Script, Wire],
) -> None:
    script, wire = line
    first = begin(wire, b"one", 2)
    script.say(b"$1\r\na\r\n-NO")
    await asyncio.sleep(0.01)
    assert not first.done()
    script.say(b" way\r\n")

    assert await first == [b"a", RefusedError("NO way")]
    second = begin(wire, b"two", 1)
    script.say(b":7\r\n")
    assert await second == [7]
    assert script.heard == b"onetwo"
    assert wire.is_usable


@pytest.mark.parametrize("said", [b":1\r\n:2\r\n", b":1\r\n:", b"?\r\n"])
async def test_answer_that_nobody_asked_for_ends_the_connection(
    line: tuple[Script, Wire], said: bytes
) -> None:
    script, wire = line
    outcome = begin(wire, b"one", 1)
    script.say(said)

    assert isinstance(await outcome, DamagedAnswerError)
    assert not wire.is_usable


async def test_connection_that_says_something_while_it_is_idle_is_not_used_again(
    line: tuple[Script, Wire],
) -> None:
    script, wire = line
    script.say(b"+OK\r\n")

    await until(lambda: not wire.is_usable)


async def test_exchange_on_a_connection_that_is_lost_ends_with_an_error(
    line: tuple[Script, Wire],
) -> None:
    script, wire = line
    outcome = begin(wire, b"one", 1)
    assert script.writer is not None
    script.writer.close()

    assert isinstance(await outcome, ConnectionResetError)
    assert not wire.is_usable


async def test_slots_are_bounded_and_go_to_who_has_waited_longest() -> None:
    slots, inside, order = Slots(2), 0, []

    async def use(number: int) -> None:
        nonlocal inside
        async with slots:
            inside += 1
            assert inside <= 2
            order.append(number)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(use(number) for number in range(20)))

    assert order == list(range(20))
    assert [slots.take() for _ in range(3)] == [True, True, False]


async def test_slot_that_is_given_to_who_is_cancelled_just_then_is_not_lost() -> None:
    slots = Slots(1)
    assert slots.take()

    async def use() -> None:
        async with slots:
            pass

    first, second = asyncio.create_task(use()), asyncio.create_task(use())
    await asyncio.sleep(0)
    slots.give_back()
    first.cancel()
    await asyncio.wait((first, second), timeout=10)

    assert first.cancelled()
    assert second.done()
    assert slots.take()


@pytest.fixture
async def cache(embedded_redis: EmbeddedRedis) -> AsyncIterator[RedisCache]:
    async with create_redis_cache(embedded_redis.url, timeout=5.0) as made:
        await made.invalidate_tenant(tenant_id="acme")
        yield made


async def gets(cache: RedisCache, keys: Sequence[str]) -> list[object]:
    return await asyncio.gather(*(cache.get(key, tenant_id="acme") for key in keys))


@pytest.mark.parametrize("count", [1, 47, 48, 49, 700])
async def test_each_of_many_who_ask_at_once_gets_its_own_value(
    cache: RedisCache, count: int
) -> None:
    values = {f"k{number}": {"number": number} for number in range(count)}
    await cache.set_many(values, tenant_id="acme")
    keys = [*values, "absent", *values]

    for _ in range(3):
        assert await gets(cache, keys) == [values.get(key) for key in keys]
    assert cache.statistics().hits == 6 * count
    assert cache.statistics().misses == 3


async def test_tenants_and_namespaces_who_ask_at_once_get_their_own_values(
    cache: RedisCache,
) -> None:
    places = [(f"t{number % 5}", f"n{number % 3}", f"k{number % 7}") for number in range(105)]
    for tenant, space, key in places:
        await cache.set(key, f"{tenant}/{space}/{key}", namespace=space, tenant_id=tenant)

    for _ in range(2):
        found = await asyncio.gather(
            *(cache.get(key, namespace=space, tenant_id=tenant) for tenant, space, key in places)
        )
        assert found == ["/".join(place) for place in places]


async def test_callers_of_one_turn_share_nothing_that_one_of_them_could_change(
    cache: RedisCache,
) -> None:
    await cache.set("key", {"list": []}, tenant_id="acme")

    first, second, third = await gets(cache, ["key"] * 3)
    assert isinstance(first, dict)
    first["list"].append(1)

    assert second == third == {"list": []}
    assert second is not third


async def test_value_that_something_is_missing_to_read_is_no_miss(
    cache: RedisCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(data: bytes, mark: int) -> object:
        raise MissingExtraError("numpy", extra="vectors", distribution="motadata-core")

    await cache.set("key", 1, tenant_id="acme")
    monkeypatch.setattr(delivery, "decode_value", decode)

    for keys in (["key"], ["key", "key"]):
        reading = [asyncio.create_task(cache.get(key, tenant_id="acme")) for key in keys]
        await asyncio.wait(reading, timeout=10)
        assert all(isinstance(one.exception(), MissingExtraError) for one in reading)


async def test_value_with_tags_and_one_without_are_found_together(cache: RedisCache) -> None:
    await cache.set("plain", "x" * 300, tenant_id="acme")
    await cache.set("tagged", "y" * 300, tags=["doc"], tenant_id="acme")
    keys = ["plain", "tagged", "absent"]

    assert await gets(cache, keys) == ["x" * 300, "y" * 300, None]
    await cache.invalidate_tag("doc", tenant_id="acme")
    assert await gets(cache, keys) == ["x" * 300, None, None]


def test_python_does_the_work_where_hiredis_is_not_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "hiredis", None)

    assert isinstance(make_reader(RefusedError), PlainReader)
    assert find_packer() is pack_plainly


async def test_cache_works_without_hiredis(
    embedded_redis: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The driver has looked for hiredis when it was imported, so it is kept from ours alone.
    monkeypatch.setattr(lanes, "make_reader", PlainReader)
    monkeypatch.setattr(lanes, "find_packer", lambda: pack_plainly)
    values: dict[str, object] = {f"k{number}": "x" * number for number in range(300)}

    async with create_redis_cache(embedded_redis.url, timeout=5.0) as cache:
        await cache.set_many(values, tags=["doc"], tenant_id="acme")
        assert await cache.get_many(list(values), tenant_id="acme") == values
        assert await cache.invalidate_pattern("k1*", tenant_id="acme") == 111
        assert await gets(cache, ["k1", "k2"]) == [None, "xx"]


async def test_connections_that_the_server_closes_while_they_are_idle_are_replaced(
    tmp_path: Path,
) -> None:
    async with (
        EmbeddedRedis(tmp_path / "redis") as server,
        Redis.from_url(server.url.get_secret_value()) as raw,
        create_redis_cache(server.url, timeout=5.0) as cache,
    ):
        await cache.set("key", 1, tenant_id="acme")
        for _ in range(3):
            assert await gets(cache, ["key"] * 5) == [1] * 5
            await raw.client_kill_filter(_type="normal", skipme=True)
            await until(lambda: not any(one.is_usable for one in idle(cache)))

        assert await gets(cache, ["key"] * 5) == [1] * 5
        assert cache.statistics().failures == 0


async def test_read_that_the_server_does_not_answer_is_given_up_and_its_connection_closed(
    tmp_path: Path,
) -> None:
    async with (
        EmbeddedRedis(tmp_path / "redis") as server,
        create_redis_cache(server.url, timeout=0.3, max_connections=2) as cache,
    ):
        await cache.set("key", 1, tenant_id="acme")
        assert await gets(cache, ["key"]) == [1]
        server.pause()
        tasks = [asyncio.create_task(cache.get("key", tenant_id="acme")) for _ in range(100)]
        done, _ = await asyncio.wait(tasks, timeout=10)
        server.resume()

        assert len(done) == 100
        assert all(isinstance(task.exception(), CacheError) for task in tasks)
        assert idle(cache) == []
        await until_async(lambda: cache.get("key", tenant_id="acme"))


def idle(cache: RedisCache) -> list[Wire]:
    own = cache._engine.server._lanes
    return [] if own is None else own._idle


async def until_async(answers: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(CacheError):
                if await answers() == 1:
                    return
            await asyncio.sleep(0.01)


@asynccontextmanager
async def behind_tls(server: EmbeddedRedis, folder: Path) -> AsyncIterator[str]:
    """Yield the address of a proxy that speaks TLS."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(alternative, critical=False)
        .sign(key, hashes.SHA256())
    )
    form = serialization.Encoding.PEM
    pem = folder / "pem"
    pem.write_bytes(
        key.private_bytes(form, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(form)
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", server.port)
        await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer))

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as proxy:
        port = proxy.sockets[0].getsockname()[1]
        url = server.url.get_secret_value().replace(f":{server.port}", f":{port}")
        yield f"{url.replace('redis://', 'rediss://')}?ssl_ca_certs={pem}"
        proxy.close()


async def test_cache_speaks_tls(embedded_redis: EmbeddedRedis, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    values = {f"k{number}": "x" * 5_000 for number in range(100)}
    before = asyncio.all_tasks()
    async with behind_tls(embedded_redis, tmp_path) as url:
        async with create_redis_cache(url, timeout=5.0) as cache:
            await cache.set_many(values, tenant_id="acme")
            for _ in range(3):
                assert await gets(cache, list(values)) == list(values.values())
        await until(lambda: asyncio.all_tasks() - before == set())
