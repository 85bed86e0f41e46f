"""The process that reads strangers' files: `python -m motadata.ingest._worker LIMITS`.

It imports all readers, gives up its rights, and then forks for every document, so that nothing of
one document is in memory while another is read and a reader that dies takes nothing with it. It
ends when its input does.
"""

from __future__ import annotations

import gc
import io
import json
import os
import select
import sys
import zipfile
from importlib import import_module
from typing import Final

from motadata.core.errors import EmptyFileError, IngestionError
from motadata.ingest._frames import JOB, MOST_HEADER, frame, receive_frame, send
from motadata.ingest._parse import Parsed, parse
from motadata.ingest._sandbox import enter_job, enter_sandbox
from motadata.ingest._text import preload_codecs
from motadata.ingest.limits import Limits


# What readers import when they are first used; behind the sandbox it could not be opened any more.
_PRELOADED: Final = (
    *("pypdfium2", "selectolax.lexbor", "markdown_it", "markdown_it.presets", "charset_normalizer"),
    *("defusedxml.sax", "defusedxml.common", "defusedxml.expatreader", "xml.sax.expatreader"),
    *(
        "pyexpat",
        "encodings.idna",
        "stringprep",
        "zipfile",
        "zlib",
        "bz2",
        "lzma",
        "csv",
        "decimal",
    ),
)
_PAGE: Final = (
    b"%PDF-1.1\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj 2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1"
    b">>endobj 3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>endobj trailer<</Root 1 0 R>>"
)
_SAMPLES: Final = (
    *(b"# A\n\n[b](c)", b"<html><p>a", b'{"a": 1}', b"a,b,c\n1,2,3\n" * 4, b"caf\xe9 noir", _PAGE),
)
_SIGNALLED: Final = 128
_BLAMELESS: Final = 500


def main() -> None:
    """Serve until the owner closes the input."""
    limits = Limits(**json.loads(sys.argv[1]))
    source, sink = _take_streams()
    for name in _PRELOADED:
        import_module(name)
    preload_codecs()
    _warm_up()
    gc.collect()
    gc.freeze()
    layers = enter_sandbox(parent=int(sys.argv[2]), memory_bytes=limits.memory_bytes)
    send(sink, frame(json.dumps({"layers": layers}).encode()))
    while _wait(source):
        if not _serve(source, sink, limits):
            break


def _warm_up() -> None:
    """Read a sample of each format: readers build tables and import what they need on the first."""
    container = io.BytesIO()
    with zipfile.ZipFile(container, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", "<document/>")
    for sample in (*_SAMPLES, container.getvalue()):
        try:
            parse(sample, "sample", Limits())
        except EmptyFileError:
            continue  # neither the page nor the document holds text


def _take_streams() -> tuple[int, int]:
    """Keep input and output for frames; whatever else prints or reads gets the null device."""
    source, sink = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)
    return source, sink


def _wait(source: int) -> bool:
    """Wait for a job; False when the owner has closed the input."""
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(source, select.POLLIN)
        poll.poll()
    return os.read(source, 1) == JOB


def _serve(source: int, sink: int, limits: Limits) -> bool:
    """Have one document read; False when the stream can no longer be trusted."""
    if not hasattr(os, "fork"):
        _read_document(source, sink, limits)
        return False
    owner = os.getpid()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            enter_job(parent=owner, seconds=limits.seconds)
            gc.disable()  # it lives for one document; collecting would take longer than it saves
            _read_document(source, sink, limits)
            status = 0
        finally:
            os._exit(status)
    _, outcome = os.waitpid(child, 0)
    if outcome == 0:
        return True
    code = os.waitstatus_to_exitcode(outcome)
    os._exit(_SIGNALLED - code if code < 0 else code)


def _read_document(source: int, sink: int, limits: Limits) -> None:
    name = receive_frame(source, most=MOST_HEADER).decode("utf-8", "replace")
    content = bytearray()
    while chunk := receive_frame(source, most=MOST_HEADER):
        content += chunk
        if len(content) > limits.file_bytes:
            return  # the owner counts as well; a stream that breaks the agreement has no answer
    answer = _answer(content, name, limits)
    if isinstance(answer, bytes):
        send(sink, frame(answer))
        return
    header = {
        "title": answer.title,
        "media_type": answer.media_type,
        "sections": answer.sections,
        "metadata": answer.metadata,
    }
    send(sink, frame(json.dumps({"document": header}).encode()))
    send(sink, frame(answer.text.encode()))


def _answer(content: bytearray, name: str, limits: Limits) -> Parsed | bytes:
    """Return the document, or the error as it goes over the wire."""
    try:
        data = bytes(content)
        content.clear()
        return parse(data, name, limits)
    except IngestionError as error:
        return _error(error.code, str(error), error.remedy)
    except MemoryError:
        message = f"Reading it takes more memory than {limits.memory_bytes} bytes."
        return _error("loader_crashed", message, "Split the file, or raise Limits.memory_bytes.")
    except RecursionError:
        message = "The content is nested too deep."
        return _error("unreadable_file", message, "Flatten it before uploading.")
    except Exception as error:  # noqa: BLE001 - a reader's defect must name itself, not hang the owner
        # The kind alone: the text of a library's error may quote the document.
        message = f"The reader failed with {type(error).__name__}."
        return _error("loader_crashed", message, "Report this file's format as a defect.")


def _error(code: str, message: str, remedy: str | None) -> bytes:
    text = message if remedy is None else message.removesuffix(f" {remedy}")
    error = {"code": code, "message": text[:_BLAMELESS], "remedy": (remedy or "")[:_BLAMELESS]}
    return json.dumps({"error": error}).encode()


if __name__ == "__main__":
    main()
