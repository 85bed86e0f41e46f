"""Turns bytes into text: byte order marks, UTF-8, wide encodings, and at last a guess."""

from __future__ import annotations

import codecs
import re
from typing import Final

from motadata.core.errors import UnsupportedFormatError


_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it starts with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_WIDE: Final = ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be")
_LEGACY: Final = [
    *("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "koi8_r"),
    *("shift_jis", "euc_jp", "gb18030", "big5", "euc_kr"),
]
_LATIN: Final = ["cp1252", "cp1250", "cp1254"]
_LATIN_SHARE: Final = 0.2
_HIGH: Final = bytes(range(128, 256))
_OTHER: Final = ("iso8859-1", "iso8859-2", "iso8859-5", "iso8859-15", "ascii", "gbk", "cp949")
_DECLARED: Final = re.compile(
    rb"""<(?:meta[^>]{0,200}charset|\?xml[^>]{0,200}encoding)\s*=\s*["']?\s*([\w.:-]{1,40})""",
    re.IGNORECASE,
)
_WIDEST: Final = 4  # bytes of a character
_FEW_ZEROS: Final = 0.05
_MANY_ZEROS: Final = 0.7
_ODD_SHARE: Final = 0.3
_ODD: Final = bytes({*range(9), *range(14, 32), *range(127, 256)})
_SAMPLE: Final = 64 * 1024
_MEASURED: Final = 8 * 1024
_FEW_CONTROLS: Final = 8
_CONTROL_SHARE: Final = 0.05
_CONTROLS: Final = re.compile("[\x00-\x06\x0e-\x1a\x1c-\x1f\ufffe\uffff]")


def decode(data: bytes) -> str:
    """Return the text that the bytes spell.

    Raises:
        UnsupportedFormatError: They spell none: this is a binary file of an unknown kind.
    """
    text = _decode(data)
    sample = text[:_MEASURED]
    controls = len(_CONTROLS.findall(sample))
    if controls > max(_FEW_CONTROLS, len(sample) * _CONTROL_SHARE):
        raise binary_error(data)
    return text


def binary_error(data: bytes) -> UnsupportedFormatError:
    """Return the error for bytes that are neither text nor a known format."""
    message = f"This is a binary file of an unknown kind; it starts with {data[:8].hex(' ')}."
    return UnsupportedFormatError(message, remedy=SUPPORTED)


SUPPORTED: Final = "Upload text, Markdown, HTML, PDF, DOCX, CSV, TSV, JSON or JSON lines."


def _decode(data: bytes) -> str:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            # A file that was cut in the middle of a character still has all the others.
            return data[len(mark) :].decode(encoding, "replace")
    wide = _wide_encoding(data)
    if wide is not None:
        return data.decode(wide, "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return _decode_legacy(data)


def _wide_encoding(data: bytes) -> str | None:
    """Recognise UTF-16 and UTF-32 without a mark by where their zero bytes are.

    Only text in Latin letters shows this way; other scripts in UTF-16 need the mark.
    """
    sample = data[: _MEASURED // _WIDEST * _WIDEST]
    if len(sample) < _WIDEST or sample.count(0) * 3 < len(sample):
        return None
    for encoding in _WIDE:
        width = 4 if encoding.startswith("utf-32") else 2
        low = 0 if encoding.endswith("le") else width - 1
        columns = [sample[at::width] for at in range(width)]
        zeros = [column.count(0) / max(1, len(column)) for column in columns]
        others = zeros[:low] + zeros[low + 1 :]
        if zeros[low] < _FEW_ZEROS and min(others) > _MANY_ZEROS:
            return encoding
    return None


def _decode_legacy(data: bytes) -> str:
    declared = _DECLARED.search(data, 0, 2048)
    if declared is not None:
        try:
            return data.decode(_safe_codec(declared[1].decode("ascii")))
        except (LookupError, ValueError):
            pass  # a wrong declaration is common; the bytes decide
    return data.decode(_guess(data[:_SAMPLE]), "replace")


def _safe_codec(name: str) -> str:
    """Return the codec's name if it decodes bytes to text, and does nothing else.

    Raises:
        LookupError: It is unknown, or not one for text (`zip`, `hex`, `rot13`, `idna`).
    """
    found = codecs.lookup(name).name
    if found not in {*(codecs.lookup(known).name for known in _LEGACY), *_OTHER}:
        raise LookupError(name)
    return found


def _guess(sample: bytes) -> str:
    from charset_normalizer import from_bytes

    # Bytes that no text has; guessing an alphabet for them would only hide that.
    zeros = sample.count(0)
    if zeros > max(_FEW_CONTROLS, len(sample) * _CONTROL_SHARE):
        raise binary_error(sample)
    # Few letters beyond ASCII: a language in Latin script. The others are made of them.
    high = len(sample) - len(sample.translate(None, _HIGH))
    candidates = _LATIN if high < _LATIN_SHARE * len(sample) else _LEGACY
    matches = from_bytes(sample, cp_isolation=candidates, enable_fallback=False)
    best = matches.best()
    if best is None:
        if _looks_binary(sample):
            raise binary_error(sample)
        return "cp1252"
    western = [match for match in matches if match.encoding == "cp1252"]
    # Short Western texts score alike in all Latin code pages; the widespread one is the best bet.
    if western and western[0].chaos <= best.chaos + 0.02:
        return "cp1252"
    return best.encoding


def _looks_binary(sample: bytes) -> bool:
    measured = sample[:_MEASURED]
    return len(measured) - len(measured.translate(None, _ODD)) > _ODD_SHARE * len(measured)


def preload_codecs() -> None:
    """Import every codec that may be needed, while files can still be opened."""
    for name in (*_LEGACY, *_WIDE, *_OTHER, "utf-8-sig", "cp437"):
        codecs.lookup(name)
