"""Codecs: values to bytes and back, exactly, within limits; never pickle.

    codec = get_codec("application/json")
    codec.decode(codec.encode(answer)) == answer

What a format has no form for travels as a mapping of one entry, whose key begins with `$`:

| value | form |
|---|---|
| datetime | `{"$datetime": "2026-11-22T09:30:00+00:00"}`; without zone, without offset |
| date | `{"$date": "2026-11-22"}` |
| UUID, Decimal | `{"$uuid": "…"}`, `{"$decimal": "0.10"}` |
| bytes | `{"$bytes": "<base64>"}`; in MessagePack as they are |
| int beyond 64 bits | `{"$int": "0x…"}` |
| vector of numpy | `{"$vector": ["<f4", "<base64>"]}`; in MessagePack extension 1, 2 (`<f8`) |
| a record of `motadata.core.models` | `{"$record": ["Usage", {"input_tokens": 3, …}]}` |
| a pydantic model | `{"$model": ["Ticket", {"priority": 1, …}]}` |
| a dict whose only key begins with `$` | the same dict with one more `$` before the key |

In Protobuf each of them is a kind of the message `Value` of `envelope.proto`, next to this file.
`seal` and `unseal` put encoded values into an envelope that says which format it holds.

The contract is `motadata.core.protocols.Codec`.
"""

from motadata.core.codec._envelope import seal, unseal
from motadata.core.codec._json import JsonCodec
from motadata.core.codec._message_pack import MessagePackCodec
from motadata.core.codec._protobuf import ProtobufCodec
from motadata.core.codec._registry import get_codec


__all__ = ["JsonCodec", "MessagePackCodec", "ProtobufCodec", "get_codec", "seal", "unseal"]
