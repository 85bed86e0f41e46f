"""A TCP proxy between a client and a server that breaks connections as a bad network would.

Owns the faults of a connection: cut, slow, torn, bit-flipped, silent. Faults of the server itself
(killed, stopped) belong to whoever runs it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Literal, Self

from motadata.core.testing._fault_chances import Chances, pieces


Towards = Literal["both", "client", "server"]
CutBy = Literal["reset", "close"]

_CHUNK: Final = 65_536
_DIAL_TIMEOUT: Final = 5.0
_RESET_AT_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER: on, for no time at all


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What goes wrong on every connection; the default is nothing.

    Bit flips and cuts are placed by position in the stream of bytes, not by time or by packet, so
    that one seed breaks the same bytes however the kernel happens to slice them.

    Attributes:
        latency: Seconds by which each piece that arrives is held up, each way.
        jitter: Seconds of which a random part is added to the latency.
        bytes_per_second: Rate each way; None is as fast as it goes.
        torn: Largest size of the random pieces in which bytes are passed on; None tears none.
        flip_every: Bytes, on average, between two flipped bits; None flips none.
        flip_towards: The direction whose bits flip.
        cut_every: Bytes, on average, before a connection is cut; None cuts none.
        cut_by: How a connection is cut: `reset` (RST, both ends) or `close` (FIN, both ends).
        silent: Swallow every byte and dial nobody. A connection that lost bytes to this is reset by
            its first byte after the silence, for its stream has a hole.
        refuse: Reset new connections at once, as where nobody listens.
    """

    latency: float = 0.0
    jitter: float = 0.0
    bytes_per_second: float | None = None
    torn: int | None = None
    flip_every: float | None = None
    flip_towards: Towards = "both"
    cut_every: float | None = None
    cut_by: CutBy = "reset"
    silent: bool = False
    refuse: bool = False


@dataclass(slots=True)
class FaultCounts:
    """What the proxy did since it was entered."""

    connections: int = 0
    bytes_to_server: int = 0
    bytes_to_client: int = 0
    cuts: int = 0
    flips: int = 0
    swallowed: int = 0


class FaultProxy:
    """Listens on a port of the loopback and forwards each connection, with faults, to a server.

        async with FaultProxy(("127.0.0.1", 6379), seed=7) as proxy:
            cache = create_redis_cache(f"redis://127.0.0.1:{proxy.port}")
            proxy.faults = Faults(latency=0.05, torn=3)   # from the next byte on
            proxy.cut()                                   # every open connection, now
            proxy.faults = Faults()                       # the network is well again

    Faults may be changed while connections are open. Leaving ends every connection and task.

    Args:
        target: Host and port of the server, or the path of its Unix socket.
        faults: What goes wrong from the start.
        seed: Of all random choices; each connection draws its own from it and its number.
    """

    def __init__(
        self, target: tuple[str, int] | str, *, faults: Faults | None = None, seed: int = 0
    ) -> None:
        self._target = target
        self.faults = faults or Faults()
        self.counts = FaultCounts()
        self._seed = seed
        self._running = asyncio.Event()
        self._running.set()
        self._server: asyncio.Server | None = None
        self._port = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """The port on 127.0.0.1 to connect to; it stays the same until the proxy is left."""
        return self._port

    @property
    def connections(self) -> int:
        """How many connections are open now."""
        return len(self._tasks)

    async def __aenter__(self) -> Self:
        """Start to listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop listening, reset every connection and wait until their tasks have ended."""
        if self._server is not None:
            self._server.close()
        self.cut()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def cut(self, *, by: CutBy = "reset") -> int:
        """End every open connection now; return how many there were."""
        count = len(self._tasks)
        self.counts.cuts += count
        for writer in list(self._writers):
            _end(writer, by=by)
        return count

    def pause(self) -> None:
        """Hold every byte and every new connection until `resume`: a network that stalls."""
        self._running.clear()

    def resume(self) -> None:
        """Pass on what was held."""
        self._running.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        self.counts.connections += 1
        try:
            await self._serve(reader, writer, f"{self._seed}:{self.counts.connections}")
        except asyncio.CancelledError:
            pass  # only `__aexit__` cancels; the streams' own callback would log it as an error
        except (OSError, TimeoutError):
            _end(writer, by="reset")  # the server is not there, or one side has gone
        finally:
            _end(writer, by="close")
            self._writers.discard(writer)
            self._tasks.discard(task)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str
    ) -> None:
        if self.faults.refuse:
            _end(writer, by="reset")
            return
        await self._running.wait()
        if self.faults.silent:
            await self._swallow(reader, writer)
            return
        async with asyncio.timeout(_DIAL_TIMEOUT):
            upstream = await self._dial()
        self._writers.add(upstream[1])
        ends = (writer, upstream[1])
        to_server = _Way(reader, upstream[1], ends, "server", Chances(f"{name}:server"))
        to_client = _Way(upstream[0], writer, ends, "client", Chances(f"{name}:client"))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(to_server))
                group.create_task(self._pump(to_client))
        except* OSError:
            for end in ends:
                _end(end, by="reset")
        finally:
            self._writers.discard(upstream[1])
            _end(upstream[1], by="close")

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._target, str):
            return await asyncio.open_unix_connection(self._target)
        return await asyncio.open_connection(*self._target)

    async def _swallow(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take what a client says and answer nothing, for as long as it stays."""
        while data := await reader.read(_CHUNK):
            self.counts.swallowed += len(data)
            if not self.faults.silent:
                break
        _end(writer, by="reset")

    async def _pump(self, way: _Way) -> None:
        """Pass bytes one way until their sender closes or the connection is cut."""
        lost = False
        while data := await way.reader.read(self._read_size()):
            faults = self.faults
            if faults.silent:
                lost = True
                self.counts.swallowed += len(data)
                continue
            await self._hold_up(len(data), way.chances)
            if lost or not await self._pass(bytearray(data), way):
                for end in way.ends:
                    _end(end, by="reset" if lost else faults.cut_by)
                self.counts.cuts += 1
                return
        if way.writer.can_write_eof() and not way.writer.is_closing():
            way.writer.write_eof()

    def _read_size(self) -> int:
        rate = self.faults.bytes_per_second
        return _CHUNK if rate is None else max(1, min(_CHUNK, int(rate / 20)))

    async def _hold_up(self, size: int, chances: Chances) -> None:
        """Wait as long as pauses, latency and rate ask for."""
        faults = self.faults
        seconds = faults.latency + faults.jitter * chances.delays.random()
        if faults.bytes_per_second is not None:
            seconds += size / faults.bytes_per_second
        if seconds > 0:
            await asyncio.sleep(seconds)
        await self._running.wait()

    async def _pass(self, data: bytearray, way: _Way) -> bool:
        """Write bytes with their faults; return False where the connection is to be cut."""
        faults, chances = self.faults, way.chances
        if faults.flip_towards in ("both", way.towards):
            for position in chances.flips.within(len(data), faults.flip_every):
                data[position] ^= 1 << chances.bits.randrange(8)
                self.counts.flips += 1
        cut = next(iter(chances.cuts.within(len(data), faults.cut_every)), None)
        for piece in pieces(bytes(data[:cut]), faults.torn, chances.sizes):
            way.writer.write(piece)
            await way.writer.drain()
            if faults.torn is not None:
                await asyncio.sleep(0)  # lets the kernel send the piece on its own
            self._count(len(piece), way.towards)
        return cut is None

    def _count(self, size: int, towards: Towards) -> None:
        if towards == "server":
            self.counts.bytes_to_server += size
        else:
            self.counts.bytes_to_client += size


@dataclass(frozen=True, slots=True)
class _Way:
    """One direction of a connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    ends: tuple[asyncio.StreamWriter, asyncio.StreamWriter]
    towards: Towards
    chances: Chances


def _end(writer: asyncio.StreamWriter, *, by: CutBy) -> None:
    """Close a connection with a FIN, or at once with an RST."""
    if by == "close":
        writer.close()
        return
    connection = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):  # closed already
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
    writer.transport.abort()
