"""The messages of `envelope.proto`, as classes of the protobuf runtime.

`envelope.binpb` is what protoc makes of that file; `tools/build_envelope_descriptor.py` runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib import resources
from typing import Protocol, TypeVar, cast

from motadata.core.errors import MissingExtraError


Scalar = TypeVar("Scalar")


class Scalars(Protocol[Scalar]):
    """The texts or numbers within a message."""

    def extend(self, items: Iterable[Scalar], /) -> None:
        """Append them all."""
        ...

    def __len__(self) -> int:
        """Return how many there are."""
        ...

    def __iter__(self) -> Iterator[Scalar]:
        """Go through them."""
        ...


class Values(Protocol):
    """The messages within a message."""

    def add(self) -> ValueMessage:
        """Append an empty message and return it."""
        ...

    def __len__(self) -> int:
        """Return how many there are."""
        ...

    def __iter__(self) -> Iterator[ValueMessage]:
        """Go through them."""
        ...


class ValueMessage(Protocol):
    """A message `motadata.core.v1.Value`; `envelope.proto` says what its fields mean."""

    kind: int
    boolean: bool
    integer: int
    number: float
    text: str
    data: bytes

    @property
    def keys(self) -> Scalars[str]:
        """The keys of `items`."""
        ...

    @property
    def items(self) -> Values:
        """What a container holds."""
        ...

    @property
    def numbers(self) -> Scalars[float]:
        """A list of numbers only."""
        ...

    def SerializeToString(self, *, deterministic: bool) -> bytes:  # noqa: N802 - protobuf's name
        """Return the bytes."""
        ...

    def ParseFromString(self, data: bytes) -> int:  # noqa: N802 - protobuf's name
        """Take the fields from bytes."""
        ...

    def DiscardUnknownFields(self) -> None:  # noqa: N802 - protobuf's name
        """Forget what the descriptor does not describe."""
        ...


@cache
def value_message() -> Callable[[], ValueMessage]:
    """Return the class of the message `Value`.

    Raises:
        MissingExtraError: protobuf is not installed.
    """
    try:
        from google.protobuf import (  # type: ignore[import-untyped]  # its wheel carries no types
            descriptor_pb2,
            descriptor_pool,
            message_factory,
        )
    except ImportError as error:
        raise MissingExtraError(
            "protobuf", extra="protobuf", distribution="motadata-core"
        ) from error
    data = resources.files(__package__).joinpath("envelope.binpb").read_bytes()
    # A pool of our own: the default one is shared with everything else in the process.
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(data).file:
        pool.Add(file)
    found = pool.FindMessageTypeByName("motadata.core.v1.Value")
    return cast("Callable[[], ValueMessage]", message_factory.GetMessageClass(found))
