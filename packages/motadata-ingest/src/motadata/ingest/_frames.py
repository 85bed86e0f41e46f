"""How a worker and its owner talk: frames of a length and as many bytes, never pickled objects.

A job is one byte, a frame with the file's name, frames with its content, and an empty frame. The
answer is a frame of JSON and, when the file could be read, a frame with its text in UTF-8.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Final

from motadata.core.errors import LoaderCrashedError


if TYPE_CHECKING:
    import asyncio

JOB: Final = b"J"
CHUNK: Final = 256 * 1024
MOST_HEADER: Final = 64 * 2**20
_LENGTH: Final = struct.Struct(">I")


def frame(payload: bytes) -> bytes:
    """Return the payload behind its length."""
    return _LENGTH.pack(len(payload)) + payload


async def read_frame(reader: asyncio.StreamReader, *, most: int) -> bytes:
    """Read one frame from a worker, which may lie.

    Raises:
        asyncio.IncompleteReadError: The worker is gone.
        LoaderCrashedError: It announces more than `most` bytes.
    """
    length = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))[0]
    if length > most:
        message = f"The reader process announced {length} bytes; {most} are allowed."
        raise LoaderCrashedError(message, remedy="Do not trust this file.")
    return await reader.readexactly(length)


def receive_frame(descriptor: int, *, most: int) -> bytes:
    """Read one frame, blocking; for the worker.

    Raises:
        EOFError: The owner is gone.
        ValueError: It announces more than `most` bytes.
    """
    length = _LENGTH.unpack(_receive(descriptor, _LENGTH.size))[0]
    if length > most:
        message = f"a frame of {length} bytes where {most} are allowed"
        raise ValueError(message)
    return _receive(descriptor, length)


def send(descriptor: int, data: bytes) -> None:
    """Write all of it, blocking; for the worker.

    Raises:
        OSError: The owner is gone.
    """
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _receive(descriptor: int, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = os.read(descriptor, size - len(parts))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)
