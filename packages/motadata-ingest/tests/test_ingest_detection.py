"""What a file is taken for: content first, name second; encodings; refusals."""

from __future__ import annotations

import io
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motadata.core.errors import IngestionError, UnreadableFileError, UnsupportedFormatError
from motadata.ingest import Limits
from motadata.ingest._detect import detect
from motadata.ingest._parse import parse
from motadata.ingest._text import decode


def zip_of(*names: str) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return written.getvalue()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (zip_of("[Content_Types].xml", "xl/workbook.xml"), "XLSX"),
        (zip_of("[Content_Types].xml", "ppt/presentation.xml"), "PPTX"),
        (zip_of("readme.txt"), "ZIP archive"),
        (b"\x89PNG\r\n\x1a\n\0\0", "PNG"),
        (b"\xff\xd8\xff\xe0\0\0", "JPEG"),
        (b"RIFF\0\0\0\0WAVEfmt ", "WAV"),
        (b"ID3\x04\0\0", "MP3"),
        (b"\0\0\0\x18ftypmp42", "MP4"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0", "old Office"),
        (b"\x1f\x8b\x08\0\0", "gzip"),
        (b"MZ\x90\0\x03\0\0\0", "Windows program"),
        (b"{\\rtf1 text}", "RTF"),
    ],
)
def test_known_formats_that_are_not_read_are_named(content: bytes, kind: str):
    with pytest.raises(UnsupportedFormatError, match=kind) as caught:
        detect(content, "upload.pdf")

    assert "DOCX" in (caught.value.remedy or "")


def test_unknown_binary_says_what_was_seen():
    with pytest.raises(UnsupportedFormatError, match="unknown kind; it starts with 00 01 02 03"):
        detect(bytes(range(32)) * 20, "data.bin")


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("<!DOCTYPE html><p>Hello", "page.txt", "html"),
        ('  {"a": 1}', "data.txt", "json"),
        ('{"a": 1}\n{"a": 2}\n', "data.json", "jsonl"),
        ("# Title\n\n- one\n- two\n\n**bold**", "readme.txt", "markdown"),
        ("a,b,c\n1,2,3\n4,5,6\n7,8,9\n", "table.txt", "csv"),
        ("a,b\n1,2\n", "table.csv", "csv"),
        ("Dear all,\nthe printer, as said, is broken.\n", "mail.txt", "text"),
        ("<p align=center>Logo</p>\n\n# Project\n\n[x](y)", "README.md", "markdown"),
        ("[link](x) is not JSON", "note.txt", "text"),
        ("{broken", "note.txt", "text"),
        ("MZ is how this sentence starts.", "note.txt", "text"),
        ("A PDF starts with %PDF-1.7, as you know.", "note.txt", "text"),
    ],
)
def test_text_formats_are_told_apart(text: str, name: str, expected: str):
    assert detect(text.encode(), name).format == expected


@pytest.mark.parametrize("name", ["report.pdf", "report.DOCX"])
def test_plain_text_under_a_binary_name_is_refused(name: str):
    with pytest.raises(UnreadableFileError, match="plain text"):
        detect(b"Service unavailable", name)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Grüße aus Köln, ça va? Déjà vu. Señor Muñoz spricht über Straßen.", "latin-1"),
        ("Dies ist ein Text mit Umlauten: äöüß", "cp1252"),
        ("Это обычный русский текст о настройке сети и принтеров в компании.", "cp1251"),  # noqa: RUF001 - Russian
        ("Plain words in wide characters", "utf-16"),
        ("Plain words in wide characters", "utf-16-le"),
        ("Plain words in wide characters", "utf-16-be"),
        ("Plain words in wide characters", "utf-32-be"),
        ("Zażółć gęślą jaźń", "utf-8-sig"),
        ("日本語のテキスト", "utf-16"),
    ],
)
def test_encodings_are_found(text: str, encoding: str):
    assert decode(text.encode(encoding)) == text


def test_few_nul_bytes_do_not_make_text_binary():
    assert parse(b"Line one.\0 Line two." + b" words" * 50, "x.txt", Limits()).text.startswith(
        "Line one. Line two."
    )


SMALL = Limits(characters=20_000, sections=200, unpacked_bytes=2**20)
STARTS = st.sampled_from(
    [b"", b"%PDF-1.7\n", b"<html><body>", b"---\na: b\n---\n", b"[", b'{"a":', b"\xff\xfe", b"# "]
)
NAMES = st.sampled_from(
    ["a", "a.md", "a.html", "a.csv", "a.json", "a.jsonl", "a.pdf", "../x\0.txt"]
)


@settings(max_examples=300, deadline=None)
@given(start=STARTS, rest=st.one_of(st.binary(max_size=400), st.text(max_size=400)), name=NAMES)
def test_any_bytes_become_a_document_or_a_typed_error(start: bytes, rest: bytes | str, name: str):
    data = start + (rest if isinstance(rest, bytes) else rest.encode("utf-8", "surrogatepass"))
    try:
        document = parse(data, name, SMALL)
    except IngestionError:
        return

    assert document.text.strip()
    end = 0
    for start_at, end_at, _, _ in document.sections:
        assert end <= start_at < end_at <= len(document.text)
        end = end_at
    document.text.encode()
    assert "\0" not in document.text
