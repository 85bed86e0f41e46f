"""Which codec reads a media type."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Final

from motadata.core.codec._json import JsonCodec
from motadata.core.codec._message_pack import MessagePackCodec
from motadata.core.codec._protobuf import ProtobufCodec
from motadata.core.errors import CodecError
from motadata.core.protocols import Codec


def get_codec(content_type: str) -> Codec:
    """Return the codec of a media type; parameters such as `charset` are ignored.

    Raises:
        CodecError: No codec writes it.
        MissingExtraError: Its extra is not installed.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type not in _CODECS:
        message = f"No codec writes {media_type[:80]!r}."
        raise CodecError(message, remedy=f"Known are {', '.join(sorted(_CODECS))}.")
    return _codec(media_type)


@cache
def _codec(media_type: str) -> Codec:
    return _CODECS[media_type]()


_CODECS: Final[dict[str, Callable[[], Codec]]] = {
    "application/json": JsonCodec,
    "application/msgpack": MessagePackCodec,
    "application/protobuf": ProtobufCodec,
}
