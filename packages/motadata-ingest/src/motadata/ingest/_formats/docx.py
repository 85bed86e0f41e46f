"""DOCX: paragraphs, headings, lists, tables, text boxes, footnotes and comments.

The container is opened with the standard library and its XML streamed through defusedxml, so that
neither a bomb nor an outside reference does anything. Libraries that offer this drop text boxes,
notes and comments, which is where people write what matters.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from typing import TYPE_CHECKING, Final, Self
from xml.sax import SAXException

from motadata.core.errors import FileTooLargeError, UnreadableFileError
from motadata.ingest._draft import Budget, Draft, HeadingPath, Piece
from motadata.ingest._formats._word import Paragraph, WordReader
from motadata.ingest._formats._word_styles import Numbering, NumberingReader, Styles, StylesReader
from motadata.ingest._formats._word_xml import PropertiesReader, RelationsReader
from motadata.ingest.limits import Limits


if TYPE_CHECKING:
    from xml.sax.handler import ContentHandler

_MEDIA_TYPE: Final = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
_PARTS: Final = 20_000
_CHUNK: Final = 64 * 1024
_NOTES: Final = (
    ("footnotes.xml", "Footnotes"),
    ("endnotes.xml", "Endnotes"),
    ("comments.xml", "Comments"),
)


def read_docx(data: bytes, budget: Budget, limits: Limits) -> Draft:
    """Return the document's text in pieces, one a heading, its notes and comments at the end.

    Raises:
        UnreadableFileError: The container or a part is damaged, encrypted, or declares entities.
        FileTooLargeError: It unpacks to more than the limits.
    """
    with _Package(data, limits) as package:
        relations = RelationsReader()
        package.read("_rels/.rels", relations)
        main = relations.main_part
        folder = main.rpartition("/")[0] + "/" if "/" in main else ""
        styles, numbering, properties = StylesReader(), NumberingReader(), PropertiesReader()
        package.read(folder + "styles.xml", styles)
        package.read(folder + "numbering.xml", numbering)
        package.read("docProps/core.xml", properties)
        body = _body(package, main, styles.styles, numbering.numbering, budget)
        draft = _draft(body, budget)
        for name, heading in _NOTES:
            notes = WordReader(styles.styles, numbering.numbering, budget)
            package.read(folder + name, notes)
            _add_notes(draft, notes.paragraphs, heading, budget)
    draft.title = properties.title.strip() or draft.title
    if properties.author.strip():
        draft.metadata["author"] = properties.author
    if body.hidden:
        draft.metadata["hidden_runs"] = str(body.hidden)
    return draft


def _body(
    package: _Package, main: str, styles: Styles, numbering: Numbering, budget: Budget
) -> WordReader:
    reader = WordReader(styles, numbering, budget)
    if not package.read(main, reader):
        message = f"The document's main part {main[:100]!r} is missing."
        raise UnreadableFileError(message, remedy="Open the file in Word and save it again.")
    return reader


def _draft(body: WordReader, budget: Budget) -> Draft:
    draft = Draft(_MEDIA_TYPE)
    path = HeadingPath()
    texts: list[str] = []
    first_heading = ""
    for paragraph in body.paragraphs:
        if paragraph.is_title:
            draft.title = draft.title or paragraph.text
        if paragraph.level is not None:
            draft.pieces.append(Piece(_join(texts), heading=path.path))
            budget.open_section()
            path.enter(paragraph.level, paragraph.text)
            first_heading = first_heading or paragraph.text
            texts = []
        texts.append(paragraph.text + ("\n" if paragraph.is_dense else "\n\n"))
    draft.pieces.append(Piece(_join(texts), heading=path.path))
    draft.title = draft.title or first_heading
    return draft


def _add_notes(draft: Draft, notes: list[Paragraph], heading: str, budget: Budget) -> None:
    if notes:
        budget.open_section()
        text = "\n".join(f"{note.label} {note.text}".strip() for note in notes)
        draft.pieces.append(Piece(f"{heading}\n\n{text}", heading=heading))


def _join(texts: list[str]) -> str:
    return "".join(texts)


class _Package:
    """An OOXML container whose parts are streamed within a budget of unpacked bytes."""

    def __init__(self, data: bytes, limits: Limits) -> None:
        self._left = self._most = limits.unpacked_bytes
        try:
            self._archive = zipfile.ZipFile(io.BytesIO(data))
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise _damaged() from error
        if len(self._archive.infolist()) > _PARTS:
            message = f"The container has more than {_PARTS} parts."
            raise FileTooLargeError(message, remedy="Save the document again without them.")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    def read(self, name: str, handler: ContentHandler) -> bool:
        """Stream a part through `handler`; return False when there is no such part.

        Raises:
            UnreadableFileError: The part is damaged, encrypted, or has a document type.
            FileTooLargeError: It and those before it unpack to more than the limit.
        """
        from defusedxml.common import DefusedXmlException
        from defusedxml.sax import make_parser

        try:
            information = self._archive.getinfo(name)
        except KeyError:
            return False
        if information.flag_bits & 1:
            message = "The document is encrypted."
            raise UnreadableFileError(message, remedy="Save it without a password and upload it.")
        parser = make_parser()
        parser.forbid_dtd = True
        parser.setFeature("http://xml.org/sax/features/namespaces", True)
        parser.setContentHandler(handler)
        try:
            with self._archive.open(information) as part:
                while chunk := part.read(_CHUNK):
                    self._count(len(chunk))
                    parser.feed(chunk)
            parser.close()
        except DefusedXmlException as error:
            message = "The document declares XML entities, which no word processor does."
            raise UnreadableFileError(message, remedy="Do not trust this file.") from error
        except (
            SAXException,
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            ValueError,
            NotImplementedError,
        ) as error:
            raise _damaged() from error
        return True

    def _count(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            message = f"The document unpacks to more than {self._most} bytes."
            raise FileTooLargeError(message, remedy="Split it, or raise Limits.unpacked_bytes.")


def _damaged() -> UnreadableFileError:
    message = "The DOCX container is damaged or cut."
    return UnreadableFileError(message, remedy="Open it in Word and save it again.")
