"""Real files, generated: the tests' own PDF and DOCX writers, and a loader with its processes."""

from __future__ import annotations

import io
import zipfile
from collections.abc import AsyncIterator, Callable, Sequence
from xml.sax.saxutils import escape

import pytest

from motadata.core.testing.fake_knowledge_base import FakeKnowledgeBase
from motadata.ingest import FileIngestionService, IsolatedLoader, create_ingestion_service


WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_RELATIONS = (
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    '<Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/2006/'
    'relationships/officeDocument" Target="word/document.xml"/></Relationships>'
)


@pytest.fixture
async def loader() -> AsyncIterator[IsolatedLoader]:
    async with IsolatedLoader() as opened:
        yield opened


@pytest.fixture
def knowledge_base() -> FakeKnowledgeBase:
    return FakeKnowledgeBase()


@pytest.fixture
async def service(knowledge_base: FakeKnowledgeBase) -> AsyncIterator[FileIngestionService]:
    async with create_ingestion_service(knowledge_base) as opened:
        yield opened


@pytest.fixture
def make_docx() -> Callable[..., bytes]:
    """Write a DOCX from the XML of its body and of further parts."""

    def make(body: str, **parts: str) -> bytes:
        space = f'xmlns:w="{WORD}" xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
        written = io.BytesIO()
        with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("[Content_Types].xml", "<Types/>")
            archive.writestr("_rels/.rels", _RELATIONS)
            archive.writestr(
                "word/document.xml", f"<w:document {space}><w:body>{body}</w:body></w:document>"
            )
            for name, content in parts.items():
                root = f"<w:{name} {space}>{content}</w:{name}>"
                archive.writestr(f"word/{name}.xml", root)
        return written.getvalue()

    return make


@pytest.fixture
def paragraph() -> Callable[..., str]:
    """Write the XML of a paragraph."""

    def make(text: str, properties: str = "") -> str:
        run = f'<w:r><w:t xml:space="preserve">{escape(text)}</w:t></w:r>'
        return f"<w:p><w:pPr>{properties}</w:pPr>{run}</w:p>"

    return make


@pytest.fixture
def make_pdf() -> Callable[..., bytes]:
    """Write a PDF from the lines of its pages, an outline of (title, page), and trailer entries."""

    def make(
        pages: Sequence[Sequence[str]],
        *,
        outline: Sequence[tuple[str, int]] = (),
        title: str = "",
        trailer: str = "",
    ) -> bytes:
        objects: list[str] = []
        count = len(pages)
        first = 4  # catalog, page tree, font, information; then page and content in turn
        kids = " ".join(f"{first + 1 + 2 * at} 0 R" for at in range(count))
        outline_at = first + 1 + 2 * count
        mark = f" /Outlines {outline_at} 0 R" if outline else ""
        objects.append(f"<< /Type /Catalog /Pages 2 0 R{mark} >>")
        objects.append(f"<< /Type /Pages /Kids [{kids}] /Count {count} >>")
        objects.append(
            "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"
        )
        objects.append(f"<< /Title ({title}) >>")
        for at, lines in enumerate(pages):
            shown = "".join(
                "({}) Tj T* ".format(
                    line.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
                )
                for line in lines
            )
            stream = f"BT /F1 12 Tf 14 TL 50 800 Td {shown}ET" if lines else ""
            objects.append(
                f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 900 850] "
                f"/Resources << /Font << /F1 3 0 R >> >> /Contents {first + 2 + 2 * at} 0 R >>"
            )
            objects.append(
                f"<< /Length {len(stream.encode('cp1252'))} >>\nstream\n{stream}\nendstream"
            )
        if outline:
            last = outline_at + len(outline)
            objects.append(
                f"<< /Type /Outlines /First {outline_at + 1} 0 R /Last {last} 0 R "
                f"/Count {len(outline)} >>"
            )
            for at, (name, page) in enumerate(outline, start=1):
                following = f" /Next {outline_at + at + 1} 0 R" if at < len(outline) else ""
                objects.append(
                    f"<< /Title ({name}) /Parent {outline_at} 0 R "
                    f"/Dest [{first + 1 + 2 * (page - 1)} 0 R /Fit]{following} >>"
                )
        return _assemble(objects, trailer)

    return make


def _assemble(objects: list[str], trailer: str) -> bytes:
    written = io.BytesIO()
    written.write(b"%PDF-1.4\n")
    offsets = []
    for number, content in enumerate(objects, start=1):
        offsets.append(written.tell())
        written.write(f"{number} 0 obj\n{content}\nendobj\n".encode("cp1252"))
    start = written.tell()
    written.write(f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode())
    written.writelines(f"{offset:010d} 00000 n \n".encode() for offset in offsets)
    entries = f"/Size {len(objects) + 1} /Root 1 0 R /Info 4 0 R {trailer}"
    written.write(f"trailer\n<< {entries} >>\nstartxref\n{start}\n%%EOF\n".encode())
    return written.getvalue()
