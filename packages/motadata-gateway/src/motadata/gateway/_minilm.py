"""all-MiniLM-L6-v2 on numpy: the encoder's forward pass, mean pooling, unit length.

The mathematics of `BertModel` (Devlin et al. 2019) with the weights that sentence-transformers
publishes; no PyTorch. Finding the files and running off the event loop is left to `_offline.py`.

Texts of a batch are laid end to end, so no arithmetic is spent on padding: the dense layers see one
matrix of all tokens, and attention runs once for each group of texts of one length.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import numpy as np
from numpy.typing import NDArray


if TYPE_CHECKING:
    from tokenizers import Tokenizer

Matrix = NDArray[np.float32]

DIMENSIONS: Final = 384
MAX_TOKENS: Final = 256
"""Longest input, the two marks around it included; what is behind it does not count."""

_LAYERS: Final = 6
_HEADS: Final = 12
_EPSILON: Final = np.float32(1e-12)
_SLICE_TOKENS: Final = 512
_MAX_CHARACTERS: Final = 100_000


@dataclass(frozen=True, slots=True)
class _Layer:
    """Weights of one encoder layer, transposed so that `x @ weight + bias` applies them."""

    qkv: Matrix
    qkv_bias: Matrix
    out: Matrix
    out_bias: Matrix
    norm: Matrix
    norm_bias: Matrix
    up: Matrix
    up_bias: Matrix
    down: Matrix
    down_bias: Matrix
    final: Matrix
    final_bias: Matrix


@dataclass(frozen=True, slots=True)
class Slice:
    """Some texts of a batch, short enough to be worked on at once.

    Attributes:
        positions: Where they stand in the batch.
        tokens: Their token numbers, by ascending length.
    """

    positions: tuple[int, ...]
    tokens: tuple[tuple[int, ...], ...]


class MiniLM:
    """The model in memory, about 90 MB; safe to use from several threads."""

    def __init__(self, tokenizer: Tokenizer, weights: Mapping[str, Matrix]) -> None:
        self._tokenizer = tokenizer
        self._words = weights["embeddings.word_embeddings.weight"]
        self._places = (
            weights["embeddings.position_embeddings.weight"][:MAX_TOKENS]
            + weights["embeddings.token_type_embeddings.weight"][0]
        )
        self._norm = weights["embeddings.LayerNorm.weight"]
        self._norm_bias = weights["embeddings.LayerNorm.bias"]
        self._layers = tuple(_layer(weights, number) for number in range(_LAYERS))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read `tokenizer.json` and `model.safetensors`; takes about a second.

        Raises:
            ImportError: The extra `offline` is not installed.
            OSError: A file cannot be read.
        """
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.enable_truncation(MAX_TOKENS)
        tokenizer.no_padding()
        return cls(tokenizer, load_file(folder / "model.safetensors"))

    def slices(self, texts: Sequence[str]) -> list[Slice]:
        """Turn texts into tokens and cut the batch into slices of about five hundred of them."""
        encodings = self._tokenizer.encode_batch([_encodable(text) for text in texts])
        tokens = [tuple(encoding.ids) for encoding in encodings]
        order = sorted(range(len(texts)), key=lambda position: len(tokens[position]))
        return [
            Slice(tuple(group), tuple(tokens[position] for position in group))
            for group in _groups(order, tokens)
        ]

    def run(self, work: Slice) -> Matrix:
        """Return one unit-length row a text of the slice."""
        lengths = [len(tokens) for tokens in work.tokens]
        state = self._words[np.concatenate([np.asarray(tokens) for tokens in work.tokens])]
        state = state + np.concatenate([self._places[:length] for length in lengths])
        state = _normalised(state, self._norm, self._norm_bias)
        for layer in self._layers:
            state = _encode(state, layer, lengths)
        starts = np.cumsum([0, *lengths[:-1]])
        means = np.add.reduceat(state, starts, axis=0) / np.asarray(lengths, np.float32)[:, None]
        result: Matrix = means / np.linalg.norm(means, axis=1, keepdims=True)
        return result


def _encode(state: Matrix, layer: _Layer, lengths: Sequence[int]) -> Matrix:
    """Apply one layer: attention, then the feed-forward network, each added and normalised."""
    attended = _attend(state @ layer.qkv + layer.qkv_bias, lengths)
    attended = attended @ layer.out
    attended += layer.out_bias
    attended += state
    state = _normalised(attended, layer.norm, layer.norm_bias)
    hidden = state @ layer.up
    hidden += layer.up_bias
    hidden = _gelu(hidden) @ layer.down
    hidden += layer.down_bias
    hidden += state
    return _normalised(hidden, layer.final, layer.final_bias)


def _attend(qkv: Matrix, lengths: Sequence[int]) -> Matrix:
    """Let each text's tokens look at each other; `lengths` ascend, equal ones run together."""
    result = np.empty((len(qkv), DIMENSIONS), np.float32)
    start = 0
    for length, count in _runs(lengths):
        end = start + length * count
        # (count, length, 3, heads, size) → (3, count, heads, length, size)
        parts = qkv[start:end].reshape(count, length, 3, _HEADS, -1).transpose(2, 0, 3, 1, 4)
        queries, keys, values = np.ascontiguousarray(parts)
        scores = queries @ keys.transpose(0, 1, 3, 2)
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        totals = scores.sum(axis=-1, keepdims=True)
        mixed = scores @ values
        mixed /= totals
        result[start:end] = mixed.transpose(0, 2, 1, 3).reshape(end - start, DIMENSIONS)
        start = end
    return result


def _normalised(values: Matrix, weight: Matrix, bias: Matrix) -> Matrix:
    """Shift and scale each row to mean 0 and variance 1, then by the learnt weight; in place."""
    values -= values.mean(axis=1, keepdims=True)
    variance = np.einsum("ij,ij->i", values, values)[:, None] / np.float32(DIMENSIONS)
    values *= 1 / np.sqrt(variance + _EPSILON)
    values *= weight
    values += bias
    return values


def _gelu(values: Matrix) -> Matrix:
    """Return x·Φ(x) by its tanh form (Hendrycks and Gimpel 2016); in place."""
    inner = values * values
    inner *= np.float32(0.044715 * math.sqrt(2 / math.pi))
    inner += np.float32(math.sqrt(2 / math.pi))
    inner *= values
    np.tanh(inner, out=inner)
    inner += np.float32(1)
    values *= inner
    values *= np.float32(0.5)
    return values


def _layer(weights: Mapping[str, Matrix], number: int) -> _Layer:
    def part(name: str) -> tuple[Matrix, Matrix]:
        base = f"encoder.layer.{number}.{name}"
        return weights[f"{base}.weight"].T, weights[f"{base}.bias"]

    query, query_bias = part("attention.self.query")
    key, key_bias = part("attention.self.key")
    value, value_bias = part("attention.self.value")
    scale = np.float32(1 / math.sqrt(DIMENSIONS / _HEADS))
    out, out_bias = part("attention.output.dense")
    norm, norm_bias = part("attention.output.LayerNorm")
    up, up_bias = part("intermediate.dense")
    down, down_bias = part("output.dense")
    final, final_bias = part("output.LayerNorm")
    return _Layer(
        qkv=np.ascontiguousarray(np.hstack([query * scale, key, value])),
        qkv_bias=np.concatenate([query_bias * scale, key_bias, value_bias]),
        out=np.ascontiguousarray(out),
        out_bias=out_bias,
        norm=norm,
        norm_bias=norm_bias,
        up=np.ascontiguousarray(up),
        up_bias=up_bias,
        down=np.ascontiguousarray(down),
        down_bias=down_bias,
        final=final,
        final_bias=final_bias,
    )


def _groups(order: Sequence[int], tokens: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Cut positions into runs whose tokens together stay within a slice."""
    group: list[int] = []
    total = 0
    for position in order:
        if group and total + len(tokens[position]) > _SLICE_TOKENS:
            yield group
            group, total = [], 0
        group.append(position)
        total += len(tokens[position])
    if group:
        yield group


def _runs(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield each length with how often it stands in a row."""
    start = 0
    for end in range(1, len(lengths) + 1):
        if end == len(lengths) or lengths[end] != lengths[start]:
            yield lengths[start], end - start
            start = end


def _encodable(text: str) -> str:
    """Cut what is far behind the last token, and replace surrogates, which have no UTF-8."""
    return text[:_MAX_CHARACTERS].encode("utf-8", "replace").decode("utf-8")
