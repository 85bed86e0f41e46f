"""Codecs: values to bytes and back, exactly, within limits; never pickle.

    codec = get_codec("application/json")
    codec.decode(codec.encode(answer)) == answer

What a format has no form for travels as a mapping of one entry, whose key begins with `$`:

| value | form |
|---|---|
| datetime with time zone | `{"$datetime": "2026-11-22T09:30:00+00:00"}` |
| date | `{"$date": "2026-11-22"}` |
| UUID, Decimal | `{"$uuid": "…"}`, `{"$decimal": "0.10"}` |
| bytes | `{"$bytes": "<base64>"}`; in MessagePack as they are |
| int beyond 64 bits | `{"$int": "0x…"}` |
| a record of `motadata.core.models` | `{"$record": ["Usage", {"input_tokens": 3, …}]}` |
| a dict whose only key begins with `$` | the same dict with one more `$` before the key |

The contract is `motadata.core.protocols.Codec`.
"""

from motadata.core.codec._json import JsonCodec
from motadata.core.codec._message_pack import MessagePackCodec
from motadata.core.codec._registry import get_codec


__all__ = ["JsonCodec", "MessagePackCodec", "get_codec"]
