"""Build the PDF, DOCX, HTML, CSV and JSON files of the sample knowledge base.

    python tools/build_samples.py           # write those that differ
    python tools/build_samples.py --check   # write nothing; exit 1 when one differs

Sources lie in tools/samples_source/: `name.pdf.md` becomes `name.pdf` in the same folder of
samples/knowledge-base/, likewise `.docx.md` and `.html.md`; tables and JSON are checked and taken
as they are. The same source gives the same files: dates are fixed and nothing random goes in.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import re
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape, unescape
from pathlib import Path
from typing import Final, Literal

from markdown_it import MarkdownIt


_ROOT: Final = Path(__file__).resolve().parent.parent
_SOURCES: Final = _ROOT / "tools" / "samples_source"
_TARGETS: Final = _ROOT / "samples" / "knowledge-base"
_DATE: Final = datetime(2026, 10, 1, tzinfo=UTC)
_AUTHOR: Final = "Larkfield Freight IT"
_MARKDOWN: Final = MarkdownIt("commonmark").enable("table")


@dataclass(frozen=True, slots=True)
class Block:
    """A heading, paragraph, list or table of an article.

    Attributes:
        level: Of a heading, from 1; 0 for everything else.
        rows: One row with one cell for a heading or paragraph, a row an item for a list, and the
            rows of a table with its header first. Cells are HTML of `<b>`, `<i>` and `<code>`.
    """

    kind: Literal["heading", "paragraph", "bullets", "numbers", "table"]
    rows: tuple[tuple[str, ...], ...]
    level: int = 0


def parse_article(text: str) -> list[Block]:
    """Return the blocks of a Markdown text."""
    blocks: list[Block] = []
    cells: list[str] = []
    rows: list[tuple[str, ...]] = []
    lists: list[str] = []
    for token in _MARKDOWN.parse(text):
        if token.type == "inline":
            cells.append(_inline(token.content))
        elif token.type in {"bullet_list_open", "ordered_list_open", "table_open"}:
            lists.append(token.type)
            rows = []
        elif token.type in {"list_item_close", "tr_close"}:
            rows.append(tuple(cells))
            cells = []
        elif token.type == "heading_close":
            blocks.append(Block("heading", (tuple(cells),), level=int(token.tag[1])))
            cells = []
        elif token.type == "paragraph_close" and not lists:
            blocks.append(Block("paragraph", (tuple(cells),)))
            cells = []
        elif token.type in {"bullet_list_close", "ordered_list_close", "table_close"}:
            lists.pop()
            blocks.append(Block(_KINDS[token.type], tuple(rows)))
    return blocks


_KINDS: Final[dict[str, Literal["bullets", "numbers", "table"]]] = {
    "bullet_list_close": "bullets",
    "ordered_list_close": "numbers",
    "table_close": "table",
}


def _inline(text: str) -> str:
    rendered: str = _MARKDOWN.renderInline(text)
    for old, new in (("strong>", "b>"), ("em>", "i>"), ("\n", " ")):
        rendered = rendered.replace(old, new)
    return rendered


def build_pdf(text: str) -> bytes:
    """Return an article as a PDF on A5 pages, which makes several pages of a long one."""
    from reportlab.lib.pagesizes import A5
    from reportlab.platypus import SimpleDocTemplate

    blocks = parse_article(text)
    buffer = io.BytesIO()
    # `invariant` fixes dates and the document's id; compression would tie the bytes to one zlib.
    document = SimpleDocTemplate(
        buffer,
        pagesize=A5,
        invariant=1,
        pageCompression=0,
        title=blocks[0].rows[0][0],
        author=_AUTHOR,
        leftMargin=48,
        rightMargin=48,
        topMargin=50,
        bottomMargin=50,
    )
    document.build([flowable for block in blocks for flowable in _flowables(block)])
    return buffer.getvalue()


def _flowables(block: Block) -> Iterator[object]:
    from reportlab.lib.styles import getSampleStyleSheet
    from reportlab.platypus import ListFlowable, ListItem, Paragraph, Spacer, Table

    styles = getSampleStyleSheet()
    body = styles["BodyText"]
    rows = [[Paragraph(_for_reportlab(cell), body) for cell in row] for row in block.rows]
    if block.kind == "heading":
        yield Paragraph(block.rows[0][0], styles["Title" if block.level == 1 else "Heading2"])
    elif block.kind == "table":
        yield Table(rows, style=[("GRID", (0, 0), (-1, -1), 0.5, "#888888")])
        yield Spacer(1, 8)
    elif block.kind == "paragraph":
        yield rows[0][0]
    else:
        bullet = "bullet" if block.kind == "bullets" else "1"
        yield ListFlowable([ListItem(row) for row in rows], bulletType=bullet, leftIndent=16)


def _for_reportlab(markup: str) -> str:
    return markup.replace("<code>", '<font face="Courier">').replace("</code>", "</font>")


def build_docx(text: str) -> bytes:
    """Return an article as a Word document with heading, list and table styles."""
    import docx

    blocks = parse_article(text)
    document = docx.Document()
    properties = document.core_properties
    properties.title = _plain(blocks[0].rows[0][0])
    properties.author = properties.last_modified_by = _AUTHOR
    properties.created = properties.modified = _DATE.replace(tzinfo=None)
    for block in blocks:
        if block.kind == "heading":
            document.add_heading(_plain(block.rows[0][0]), level=block.level - 1)
        elif block.kind == "table":
            table = document.add_table(rows=0, cols=len(block.rows[0]), style="Table Grid")
            for row in block.rows:
                for cell, value in zip(table.add_row().cells, row, strict=True):
                    cell.text = _plain(value)
        else:
            styles = {"bullets": "List Bullet", "numbers": "List Number"}
            for row in block.rows:
                document.add_paragraph(_plain(row[0]), style=styles.get(block.kind))
    buffer = io.BytesIO()
    document.save(buffer)
    return _repacked(buffer.getvalue())


def _plain(markup: str) -> str:
    return unescape(re.sub(r"<[^>]+>", "", markup))


def _repacked(archive: bytes) -> bytes:
    """Return a ZIP archive with sorted members of one date."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        # `[Content_Types].xml` must come first; it also sorts first.
        for name, content in sorted(_members(archive).items()):
            member = zipfile.ZipInfo(name, _DATE.timetuple()[:6])
            target.writestr(member, content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _members(archive: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(archive)) as source:
        return {name: source.read(name) for name in source.namelist()}


def build_html(text: str) -> bytes:
    """Return an article as a page with the navigation and footer that intranet pages have."""
    title = escape(_plain(parse_article(text)[0].rows[0][0]))
    body: str = _MARKDOWN.render(text)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title} | {_AUTHOR}</title>
<style>body {{ font-family: sans-serif; max-width: 45em; margin: auto }}</style>
</head>
<body>
<nav><a href="/">Home</a> <a href="/it">IT</a> <a href="/search">Search</a></nav>
<main>
{body}</main>
<footer>{_AUTHOR}, {_DATE:%d %B %Y}. For staff only.</footer>
<script>window.larkfieldPage = "{title}";</script>
</body>
</html>
""".encode()


def build_csv(text: str) -> bytes:
    """Return a table after checking that its rows are equally long."""
    rows = list(csv.reader(io.StringIO(text), strict=True))
    widths = {len(row) for row in rows}
    if len(widths) != 1:
        message = f"rows have {sorted(widths)} columns"
        raise ValueError(message)
    return text.encode()


def build_json(text: str) -> bytes:
    """Return JSON after checking that it is."""
    json.loads(text)
    return text.encode()


_BUILDERS: Final[dict[str, Callable[[str], bytes]]] = {
    ".pdf.md": build_pdf,
    ".docx.md": build_docx,
    ".html.md": build_html,
    ".csv": build_csv,
    ".json": build_json,
}


def build_all() -> Iterator[tuple[Path, bytes]]:
    """Yield each target with its content."""
    for source in sorted(path for path in _SOURCES.rglob("*") if path.is_file()):
        builder = _BUILDERS["".join(source.suffixes)]
        name = source.name.removesuffix(".md")
        target = _TARGETS / source.parent.relative_to(_SOURCES) / name
        yield target, builder(source.read_text(encoding="utf-8"))


def _same(old: bytes, new: bytes) -> bool:
    """Compare files; archives by their members, since each zlib compresses a little differently."""
    if old.startswith(b"PK") and new.startswith(b"PK"):
        return _members(old) == _members(new)
    return old == new


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if out of date")
    check: bool = parser.parse_args().check
    stale = 0
    for target, content in build_all():
        if target.exists() and _same(target.read_bytes(), content):
            continue
        stale += 1
        print(f"{'out of date' if check else 'wrote'}: {target.relative_to(_ROOT)}")
        if not check:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    if check and stale:
        print("Run: python tools/build_samples.py", file=sys.stderr)
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
