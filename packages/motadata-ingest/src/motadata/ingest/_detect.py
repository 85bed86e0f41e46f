"""Finds out what a file is: by its content first, by its name where the content leaves it open.

A cascade: magic bytes, a look inside containers, decoding, and what the text looks like. When a
name promises another format than the content is, the content wins. One case is refused: a name of a
binary format on plain text, since that is nearly always a failed download or a cut file.
"""

from __future__ import annotations

import io
import re
import zipfile
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, Literal

from motadata.core.errors import UnreadableFileError, UnsupportedFormatError
from motadata.ingest._text import SUPPORTED, decode
from motadata.ingest._text_formats import TextFormat, text_format


BinaryFormat = Literal["pdf", "docx"]
Format = BinaryFormat | TextFormat


@dataclass(frozen=True, slots=True)
class Detected:
    """The format of a file, with its text when it is one of the text formats."""

    format: Format
    text: str = ""


_REFUSED: Final[tuple[tuple[int, bytes, str], ...]] = (
    (0, b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"GIF87a", "a GIF image"),
    (0, b"GIF89a", "a GIF image"),
    (0, b"II*\x00", "a TIFF image"),
    (0, b"MM\x00*", "a TIFF image"),
    (8, b"WEBP", "a WebP image"),
    (8, b"WAVE", "a WAV recording"),
    (8, b"AVI ", "an AVI video"),
    (4, b"ftypheic", "a HEIC image"),
    (4, b"ftypavif", "an AVIF image"),
    (4, b"ftypM4A", "an M4A recording"),
    (4, b"ftyp", "an MP4 or QuickTime video"),
    (0, b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
    (0, b"OggS", "an Ogg recording"),
    (0, b"fLaC", "a FLAC recording"),
    (0, b"ID3\x02", "an MP3 recording"),
    (0, b"ID3\x03", "an MP3 recording"),
    (0, b"ID3\x04", "an MP3 recording"),
    (0, b"\xff\xfb", "an MP3 recording"),
    (0, b"\xff\xf3", "an MP3 recording"),
    (0, b"\x1f\x8b\x08", "a gzip archive"),
    (0, b"BZh", "a bzip2 archive"),
    (0, b"\xfd7zXZ\x00", "an xz archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (0, b"Rar!\x1a\x07", "a RAR archive"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"\x7fELF", "a program"),
    (0, b"\xcf\xfa\xed\xfe", "a program"),
    (0, b"\xca\xfe\xba\xbe", "a program or Java class"),
    (0, b"SQLite format 3\x00", "an SQLite database"),
    (0, b"PAR1", "a Parquet table"),
    (0, b"{\\rtf", "an RTF document"),
    (0, b"%!PS", "a PostScript document"),
    (0, b"\x00\x00\x01\x00", "an icon"),
)
# Two letters are no evidence by themselves: prose may start with them.
_REFUSED_IF_BINARY: Final = ((b"MZ", "a Windows program"), (b"BM", "a BMP image"))
_ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_OLE: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED_PACKAGE: Final = "EncryptedPackage".encode("utf-16-le")
_OFFICE_FOLDERS: Final = (
    ("xl/", "an Excel workbook (XLSX)"),
    ("ppt/", "a PowerPoint presentation (PPTX)"),
    ("visio/", "a Visio drawing (VSDX)"),
)
_OPEN_DOCUMENT: Final = re.compile(rb"application/(?:vnd\.oasis\.opendocument\.\w+|epub\+zip)")
_BINARY_NAMES: Final = {".pdf": "PDF", ".docx": "DOCX", ".docm": "DOCX"}
_HEAD: Final = 1024


def detect(data: bytes, name: str) -> Detected:
    """Return what the bytes are.

    Args:
        data: The whole file, not empty.
        name: Its name; the ending is a hint.

    Raises:
        UnsupportedFormatError: A format that is recognised and not read, or an unknown binary one.
        UnreadableFileError: The file is encrypted, damaged, or plain text under a binary name.
    """
    binary = _binary_format(data)
    if binary is not None:
        return Detected(binary)
    _refuse_known(data)
    text = decode(data)
    suffix = PurePosixPath(name.lower().replace("\\", "/")).suffix
    found = text_format(text, suffix)
    expected = _BINARY_NAMES.get(suffix)
    if expected is not None and found in {"text", "markdown", "csv"}:
        message = f"The name says {expected}, but the content is plain text."
        remedy = "Get the file again, or give it the ending of what it is, such as .txt."
        raise UnreadableFileError(message, remedy=remedy)
    return Detected(found, text)


def _binary_format(data: bytes) -> BinaryFormat | None:
    start = data[:_HEAD].lstrip(b"\xef\xbb\xbf \t\r\n\x00")
    if start.startswith(b"%PDF-"):
        return "pdf"
    # Some writers put a few bytes before the header; text that only mentions it has no trailer.
    if b"%PDF-" in data[:_HEAD] and b"startxref" in data[-2 * _HEAD :]:
        return "pdf"
    if data.startswith(_ZIP):
        return _inside_zip(data)
    return None


def _inside_zip(data: bytes) -> BinaryFormat:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        message = "The ZIP container is damaged or cut."
        raise UnreadableFileError(message, remedy="Get the file again.") from error
    if any(name.startswith("word/") for name in names):
        return "docx"
    for folder, kind in _OFFICE_FOLDERS:
        if any(name.startswith(folder) for name in names):
            raise _refusal(kind)
    if _OPEN_DOCUMENT.search(data[:256]):
        raise _refusal("an OpenDocument or EPUB file")
    raise _refusal("a ZIP archive")


def _refuse_known(data: bytes) -> None:
    if data.startswith(_OLE):
        if _ENCRYPTED_PACKAGE in data:
            message = "The document is encrypted."
            raise UnreadableFileError(message, remedy="Save it without a password and upload it.")
        raise _refusal("an old Office document (DOC, XLS, PPT or MSG)")
    for offset, magic, kind in _REFUSED:
        if data.startswith(magic, offset):
            raise _refusal(kind)
    for letters, kind in _REFUSED_IF_BINARY:
        if data.startswith(letters) and b"\x00" in data[:_HEAD]:
            raise _refusal(kind)


def _refusal(kind: str) -> UnsupportedFormatError:
    message = f"This is {kind}, which this version does not read."
    return UnsupportedFormatError(message, remedy=SUPPORTED)
