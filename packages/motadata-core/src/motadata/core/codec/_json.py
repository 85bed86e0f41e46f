"""JSON: what everything can read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, NoReturn

from motadata.core.codec._limits import (
    MAX_BYTES,
    MAX_DEPTH,
    Engine,
    LimitedCodec,
    half_a_pair,
    too_deep,
    unique,
)
from motadata.core.codec._packing import FastPacking, missing
from motadata.core.codec._plainness import is_deeper, is_plain, may_hold_bytes
from motadata.core.codec._tree import Form, flatten, restore
from motadata.core.errors import CodecError


if TYPE_CHECKING:
    from pydantic import BaseModel

_NO_OPENINGS: Final = bytes(sorted(frozenset(range(256)) - frozenset(b"[{")))
_DOLLAR: Final = 0x24

# A record is three containers in its encoded form: {"$record": [name, {…}]}.
_CONTAINERS_PER_LEVEL: Final = 3
# And the deepest value may be a vector: {"$vector": [kind, text]}.
_CONTAINERS_OF_A_SCALAR: Final = 2

# Strings are swallowed whole, even one that is never closed, so that the scan is linear.
_NESTING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
_ESCAPED_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")

Dump = Callable[[object], bytes]
Load = Callable[[bytes], object]
Probe = Callable[[object], bytes]


class JsonCodec(LimitedCodec):
    """JSON (RFC 8259) in UTF-8, without NaN, infinities and duplicate keys.

    Args:
        max_bytes: Largest encoded value.
        max_depth: Most containers, records and models within each other.
        models: Classes of pydantic models, whose instances travel by the names of their classes.
        engine: `fast` is msgspec, of the extra `fast`; `plain` is Python's own; `auto` is the
            first of them that is installed. They spell some floats differently (1e-7, 1e-07) and
            differ in nothing else.

    Raises:
        ConfigurationError: A limit is not positive, or a model's class is none or not alone.
        MissingExtraError: The engine is `fast` and not installed.
    """

    def __init__(
        self,
        *,
        max_bytes: int = MAX_BYTES,
        max_depth: int = MAX_DEPTH,
        models: Iterable[type[BaseModel]] = (),
        engine: Engine = "auto",
    ) -> None:
        super().__init__(max_bytes=max_bytes, max_depth=max_depth, models=models)
        self._form = Form(self._models)
        self._dump: Dump = _dump
        self._load: Load | None = None
        self._probe: Probe | None = None
        if engine != "plain":
            self._take_engine(engine)

    @property
    def content_type(self) -> str:
        """`application/json`."""
        return "application/json"

    def encode(self, value: object) -> bytes:
        """Return `value` as JSON.

        Raises:
            CodecError: A part of the value has no encoding, or it is too large or nested too deep.
        """
        try:
            tree = value if self._is_plain(value) else flatten(value, self._form, self._max_depth)
            data = self._dump(tree)
        except UnicodeEncodeError:
            # Not chained: the error holds the text.
            raise half_a_pair() from None
        except RecursionError:
            raise too_deep() from None
        if len(data) > self._max_bytes:
            raise self._too_large(len(data))
        return data

    def decode(self, data: bytes) -> object:
        """Return the value that `data` encodes.

        Raises:
            CodecError: `data` is malformed, larger or deeper than the limits.
            MissingExtraError: It holds a vector, and numpy is not installed.
        """
        data = self._checked(data)
        openings = len(data.translate(None, _NO_OPENINGS))
        deepest = self._max_depth * _CONTAINERS_PER_LEVEL + _CONTAINERS_OF_A_SCALAR
        if openings > deepest:
            self._check_nesting(data, deepest)
        try:
            exact, tree = self._load_exactly(data)
            # One letter is found at a tenth of the cost of two.
            if exact and (_DOLLAR not in data or b'"$' not in data):
                if openings <= self._max_depth or not is_deeper(tree, self._max_depth):
                    return tree
            elif not exact:
                tree = _load(data)
            return restore(tree, self._form, self._max_depth)
        except RecursionError:
            raise too_deep() from None

    def _take_engine(self, engine: Engine) -> None:
        try:
            import msgspec

            self._probe = FastPacking().pack_without_vectors
        except ImportError as error:
            if engine == "fast":
                raise missing(error.name or "msgspec") from error
            return
        self._dump = msgspec.json.Encoder().encode
        self._load = msgspec.json.Decoder().decode

    def _is_plain(self, value: object) -> bool:
        if self._probe is None:
            return False
        try:
            packed = self._probe(value)
            return is_plain(packed, value, self._max_depth) and not may_hold_bytes(packed)
        except (TypeError, ValueError, RecursionError):
            return False

    def _load_exactly(self, data: bytes) -> tuple[bool, object]:
        """Return whether data that comes out as it went in holds this tree, and nothing odd."""
        if self._load is None:
            return False, None
        try:
            tree = self._load(data)
            return self._dump(tree) == data, tree
        except (ValueError, RecursionError):
            return False, None

    def _check_nesting(self, data: bytes, limit: int) -> None:
        depth = 0
        for found in _NESTING.finditer(data):
            mark = data[found.start()]
            if mark in b"[{":
                depth += 1
                if depth > limit:
                    message = f"The data is nested deeper than {self._max_depth} levels."
                    raise CodecError(message, remedy="Flatten it, or raise max_depth.")
            elif mark in b"]}":
                depth -= 1


def _dump(tree: object) -> bytes:
    return json.dumps(tree, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _load(data: bytes) -> object:
    try:
        text = data.decode()
        tree: object = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=unique)
        if _ESCAPED_SURROGATE.search(text):
            # Pairs have become one character by now; halves show when the tree is written again.
            _dump(tree)
    except UnicodeDecodeError as error:
        message = f"The data is not UTF-8: byte {error.start} does not fit."
        raise CodecError(message) from None
    except UnicodeEncodeError:
        message = "A text in the data holds half of a surrogate pair."
        raise CodecError(message) from None
    except json.JSONDecodeError as error:
        message = f"The data is not JSON: {error.msg} at character {error.pos}."
        raise CodecError(message) from None
    except ValueError:
        message = "The data holds a number that is too long."
        raise CodecError(message) from None
    return tree


def _refuse_constant(name: str) -> NoReturn:
    message = f"{name} is no JSON number."
    raise CodecError(message, remedy="Send null, or leave it out.")
