"""PDF: the text of each page, under the headings of the document's outline.

PDFium reads it, Chromium's own PDF library. Neither scripts nor forms are started, nothing outside
the file is followed, and no page is drawn.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from motadata.core.errors import UnreadableFileError
from motadata.ingest._draft import Budget, Draft, HeadingPath, Piece
from motadata.ingest._formats._pdf_lines import Reflow, drop_running_lines


if TYPE_CHECKING:
    import pypdfium2

_PASSWORD_ERROR: Final = 4  # FPDF_ERR_PASSWORD
_BOOKMARKS: Final = 10_000
_BOOKMARK_DEPTH: Final = 9
_SPACE: Final = re.compile(r"\s+")
_NUMBER: Final = re.compile(
    r"^(?:[\dA-Z]{1,3}(?:\.\d{1,3}){0,6}\.?|appendix [a-z][.:—-]*|chapter \d+[.:]?) ", re.IGNORECASE
)
_POOR_TITLE: Final = re.compile(
    r"^(?:microsoft (?:word|powerpoint|excel) - |untitled|document\d*$|slide 1$)"
    r"|\.(?:docx?|pptx?|xlsx?|indd|tex|dvi|qxd|pdf|txt)$",
    re.IGNORECASE,
)
# Word exports a list's entries as bookmarks when somebody gave them a heading's style.
_BULLET: Final = re.compile("[\uf000-\uf0ff•▪●○◦]\\s")
Outline = dict[int, list[tuple[int, str]]]


def read_pdf(data: bytes, budget: Budget) -> Draft:
    """Return the text of each page, split where a heading of the outline stands.

    Pages that are damaged or hold no text are counted in the metadata.

    Raises:
        UnreadableFileError: The file is encrypted, or too damaged to open, or no page can be read.
        FileTooLargeError: It has more text or pages than the limits.
    """
    import pypdfium2
    from pypdfium2 import PdfiumError

    try:
        document = pypdfium2.PdfDocument(data)
        count = len(document)
    except PdfiumError as error:
        raise _cannot_open(error) from error
    pages: list[list[str]] = []
    damaged: list[int] = []
    for index in range(count):
        budget.open_section()
        try:
            text = _page_text(document, index)
        except PdfiumError:
            damaged.append(index + 1)
            text = ""
        pages.append(budget.spend(text).replace("\r\n", "\n").replace("\r", "\n").split("\n"))
    if count == len(damaged):
        message = f"None of the {count} pages can be read."
        raise UnreadableFileError(message, remedy="Open it in a viewer and save it again.")
    draft = _draft(pages, _outline(document, budget))
    _label(draft, document, pages, damaged)
    return draft


def _page_text(document: pypdfium2.PdfDocument, index: int) -> str:
    page = document[index]
    try:
        text_page = page.get_textpage()
        try:
            text: str = text_page.get_text_range()
        finally:
            text_page.close()
    finally:
        page.close()
    return text


def _draft(pages: list[list[str]], outline: Outline) -> Draft:
    draft = Draft("application/pdf")
    reflow = Reflow(pages)
    path = HeadingPath()
    for number, lines in enumerate(drop_running_lines(pages), start=1):
        at, heading = 0, path.path
        for level, title in outline.get(number - 1, ()):
            place = _find(lines, title, at)
            if place is not None:
                draft.pieces.append(Piece(reflow.join(lines[at : place[0]]), number, heading))
                at = place[1]
            heading = path.enter(level, title)
            if place is not None:
                # The heading is a piece of its own, so that no sentence is joined to it.
                draft.pieces.append(Piece(" ".join(lines[slice(*place)]), number, heading))
        draft.pieces.append(Piece(reflow.join(lines[at:]), number, heading))
    return draft


def _outline(document: pypdfium2.PdfDocument, budget: Budget) -> Outline:
    """Return the bookmarks of each page; a damaged outline counts as none."""
    from pypdfium2 import PdfiumError

    found: Outline = defaultdict(list)
    try:
        for number, bookmark in enumerate(document.get_toc(max_depth=_BOOKMARK_DEPTH)):
            if number >= _BOOKMARKS:
                break
            target = bookmark.get_dest()
            index = target.get_index() if target is not None else None
            title = _SPACE.sub(" ", bookmark.get_title()).strip()
            if index is not None and title and not _BULLET.match(title):
                budget.open_section()
                found[index].append((bookmark.level, title))
    except (PdfiumError, UnicodeDecodeError):
        return {}
    return found


def _find(lines: list[str], title: str, start: int) -> tuple[int, int] | None:
    """Return the lines on which a heading stands, alone, wrapped over three at most."""
    wanted = _bare(title)
    for at in range(start, len(lines)):
        first = _bare(lines[at])
        if not first or not wanted.startswith(first):
            continue
        for end in range(at + 1, min(at + 4, len(lines) + 1)):
            if _bare(" ".join(lines[at:end])) == wanted:
                return at, end
    return None


def _bare(line: str) -> str:
    """Return a heading without its number, in one case and spacing, for comparison."""
    text = _SPACE.sub(" ", line[:1000]).strip().casefold()
    return _NUMBER.sub("", text)


def _label(
    draft: Draft, document: pypdfium2.PdfDocument, pages: list[list[str]], damaged: list[int]
) -> None:
    information = document.get_metadata_dict(skip_empty=True)
    title = information.get("Title", "").strip()
    draft.title = "" if _POOR_TITLE.search(title) else title
    if information.get("Author"):
        draft.metadata["author"] = information["Author"]
    draft.metadata["pages"] = str(len(pages))
    empty = sum(1 for lines in pages if not any(line.strip() for line in lines)) - len(damaged)
    if empty:
        draft.metadata["pages_without_text"] = str(empty)
    if damaged:
        draft.metadata["unreadable_pages"] = ", ".join(map(str, damaged))


def _cannot_open(error: Exception) -> UnreadableFileError:
    if getattr(error, "err_code", None) == _PASSWORD_ERROR:
        message = "The PDF is encrypted."
        return UnreadableFileError(message, remedy="Save it without a password and upload that.")
    message = "The PDF is damaged or cut."
    return UnreadableFileError(message, remedy="Get the file again, or print it to a new PDF.")
