"""HTML: what a reader of the page sees, in blocks under their headings.

Lexbor, through selectolax, builds the tree as browsers do, which broken pages need, and many times
faster than the parsers written in Python. The tree is walked without recursion, however deep it is.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from motadata.core.errors import UnreadableFileError
from motadata.ingest._draft import Budget, Draft, HeadingPath, Piece


if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

_UNSEEN: Final = frozenset(
    {
        *("-comment", "!doctype", "audio", "canvas", "datalist", "head", "iframe", "math"),
        *("noscript", "object", "script", "style", "svg", "template", "video"),
    }
)
_BLOCKS: Final = frozenset(
    {
        *("address", "article", "aside", "blockquote", "body", "caption", "center", "dd"),
        *("details", "dialog", "div", "dl", "dt", "fieldset", "figcaption", "figure", "footer"),
        *("form", "header", "hr", "html", "legend", "li", "main", "menu", "nav", "ol", "p"),
        *("pre", "search", "section", "summary", "table", "tbody", "tfoot", "thead", "tr", "ul"),
    }
)
_HEADINGS: Final = {f"h{level}": level for level in range(1, 7)}
_INVISIBLE: Final = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*hidden"
    r"|(?:font-size|opacity)\s*:\s*0(?:\.0*)?(?:px|pt|em|%)?\s*(?:;|!|$)",
    re.IGNORECASE,
)
_LIST_DEPTH: Final = 8


def read_html(text: str, budget: Budget) -> Draft:
    """Return the visible text in pieces, one a heading.

    Raises:
        UnreadableFileError: The page cannot be parsed.
        FileTooLargeError: It has more text or headings than the limits.
    """
    from selectolax.lexbor import LexborHTMLParser, SelectolaxError

    try:
        tree = LexborHTMLParser(text)
    except (SelectolaxError, ValueError, RuntimeError) as error:
        message = "The HTML cannot be parsed."
        raise UnreadableFileError(message, remedy="Save the page again and upload that.") from error
    page = _Page(budget)
    if tree.body is not None:
        page.walk(tree.body)
    title = tree.css_first("title")
    draft = Draft("text/html", pieces=page.finish(), title=title.text() if title else "")
    draft.title = draft.title.strip() or page.first_heading
    if page.hidden:
        draft.metadata["hidden_elements"] = str(page.hidden)
    return draft


class _Page:
    """Collects the text of a page while its tree is walked."""

    def __init__(self, budget: Budget) -> None:
        self.first_heading = ""
        self.hidden = 0
        self._budget = budget
        self._pieces: list[Piece] = []
        self._path = HeadingPath()
        self._blocks: list[str] = []
        self._inline: list[str] = []
        self._lists: list[int] = []  # the next number of each open list; 0 for bullets
        self._rows = 0
        self._verbatim = 0
        self._heading = 0

    def walk(self, root: LexborNode) -> None:
        """Visit every visible node below `root`, in order."""
        node: LexborNode | None = root
        while node is not None:
            child = node.child if self._enter(node) else None
            if child is not None:
                node = child
                continue
            while node is not None:
                self._leave(node)
                if node == root:
                    return
                if node.next is not None:
                    node = node.next
                    break
                node = node.parent

    def finish(self) -> list[Piece]:
        """Return the pieces."""
        self._flush()
        self._close_piece()
        return self._pieces

    def _enter(self, node: LexborNode) -> bool:
        """Take the node in; return whether its children are to be visited."""
        tag = node.tag or ""
        if tag == "-text":
            self._add_text(node.text_content or "")
            return False
        if tag in _UNSEEN or self._is_hidden(node):
            return False
        if tag == "br":
            self._inline.append("\n")
        elif tag == "img":
            self._inline.append(f" {node.attributes.get('alt') or ''} ")
        elif tag in _HEADINGS and not self._rows:
            self._flush()
            self._heading += 1
        elif tag in {"td", "th"}:
            self._inline.append(" | ")
        elif tag in _BLOCKS:
            self._open_block(tag)
        return True

    def _open_block(self, tag: str) -> None:
        if tag == "tr":
            self._rows += 1
        self._break()
        if tag in {"ul", "ol", "menu"}:
            self._lists.append(1 if tag == "ol" else 0)
        elif tag == "li":
            self._inline.append(self._bullet())
        elif tag == "pre":
            self._verbatim += 1

    def _bullet(self) -> str:
        if not self._lists:
            return "- "
        indent = "  " * min(len(self._lists) - 1, _LIST_DEPTH)
        number = self._lists[-1]
        if number:
            self._lists[-1] += 1
        return f"{indent}{number}. " if number else f"{indent}- "

    def _leave(self, node: LexborNode) -> None:
        tag = node.tag or ""
        if tag in _UNSEEN or tag == "-text" or (tag not in _BLOCKS and tag not in _HEADINGS):
            return
        if _hides(node):
            return
        if tag in _HEADINGS:
            self._close_heading(_HEADINGS[tag])
            return
        if tag == "tr":
            self._rows -= 1
        self._break()
        if tag in {"ul", "ol", "menu"}:
            self._lists.pop()
        elif tag == "pre":
            self._verbatim -= 1

    def _close_heading(self, level: int) -> None:
        if self._rows or not self._heading:
            return
        self._heading -= 1
        title = " ".join("".join(self._inline).split())
        self._inline.clear()
        if not title:
            return
        self._close_piece()
        self._budget.open_section()
        self.first_heading = self.first_heading or title
        self._path.enter(level, title)
        self._blocks.append(self._budget.spend(title))

    def _add_text(self, text: str) -> None:
        if not self._verbatim:
            # One blank stands for any white space, as on a screen.
            before, after = (" " if end.isspace() else "" for end in (text[:1], text[-1:]))
            text = before + " ".join(text.split()) + after
        self._inline.append(text)

    def _break(self) -> None:
        """End a block; within a table's row blocks stay on one line."""
        if self._rows and not self._verbatim:
            self._inline.append(" ")
        else:
            self._flush()

    def _flush(self) -> None:
        text = "".join(self._inline)
        self._inline.clear()
        if not self._verbatim:
            indent = text[: len(text) - len(text.lstrip(" "))] if self._lists else ""
            lines = (" ".join(line.split()) for line in text.split("\n"))
            text = indent + "\n".join(line for line in lines if line)
        text = text.removeprefix("| ").strip("\n")
        if text.strip(" -"):
            self._blocks.append(self._budget.spend(text))

    def _close_piece(self) -> None:
        if self._blocks:
            self._pieces.append(Piece(_join(self._blocks), heading=self._path.path))
            self._blocks = []

    def _is_hidden(self, node: LexborNode) -> bool:
        if not _hides(node):
            return False
        self.hidden += 1
        return True


def _hides(node: LexborNode) -> bool:
    attributes = node.attributes
    if not attributes:
        return False
    return "hidden" in attributes or _INVISIBLE.search(attributes.get("style") or "") is not None


def _join(blocks: list[str]) -> str:
    """Join with a blank line between blocks, but none within lists and tables."""
    parts = [blocks[0]]
    for before, block in pairwise(blocks):
        dense = (_is_item(before) and _is_item(block)) or (" | " in before and " | " in block)
        parts.append("\n" if dense else "\n\n")
        parts.append(block)
    return "".join(parts)


def _is_item(block: str) -> bool:
    return re.match(r" *(?:-|\d+\.) ", block) is not None
