"""Markdown: the text stays as people wrote it; its headings become sections."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

from motadata.ingest._draft import Budget, Draft, HeadingPath, Piece


_FRONT_MATTER: Final = re.compile(
    r"\A\ufeff?\s{0,8}---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*$\n?", re.MULTILINE | re.DOTALL
)
_FIELD: Final = re.compile(r"([A-Za-z_][\w .-]{0,60}):(?:\s+(.*)|\s*)")
_QUOTED: Final = re.compile(r"""(["'])(.*)\1""")
_FIELDS: Final = 50
_INLINE_MARKS: Final = re.compile(
    r"!?\[([^\]\n]{0,300})\]\([^)\n]{0,1000}\)|[*_`]{1,3}|<[^<>\n]{1,200}>"
)


def read_markdown(text: str, budget: Budget) -> Draft:
    """Return the text in pieces, one a heading, without its front matter.

    Raises:
        FileTooLargeError: It is longer, or has more headings, than the limits.
    """
    body = budget.spend(text.replace("\r\n", "\n").replace("\r", "\n"))
    draft = Draft("text/markdown")
    front = _FRONT_MATTER.match(body)
    if front is not None and (fields := _front_matter(front[1])):
        body = body[front.end() :]
        draft.title = fields.pop("title", "")
        draft.metadata.update(fields)
    lines = body.split("\n")
    path = HeadingPath()
    at, heading = 0, None
    for line, level, title in _headings(body):
        budget.open_section()
        draft.pieces.append(Piece("\n".join(lines[at:line]), heading=heading))
        draft.title = draft.title or title
        at, heading = line, path.enter(level, title)
    draft.pieces.append(Piece("\n".join(lines[at:]), heading=heading))
    return draft


def _headings(body: str) -> list[tuple[int, int, str]]:
    """Return line, level and title of each heading; fences, quotes and comments hold none."""
    from markdown_it import MarkdownIt

    # Blocks alone tell headings from what only looks like them; inline parsing costs far more.
    tokens = MarkdownIt("commonmark").disable("inline").parse(body)
    found = []
    for token, content in pairwise(tokens):
        if token.type == "heading_open" and token.level == 0 and token.map is not None:
            title = _INLINE_MARKS.sub(lambda match: match[1] or "", content.content)
            found.append((token.map[0], int(token.tag[1:]), " ".join(title.split())))
    return found


def _front_matter(block: str) -> dict[str, str]:
    """Read the flat part of YAML front matter: `name: value` and lists of plain values.

    Nested mappings, anchors and tags are left out: labels need none of them, and a YAML parser is
    much to trust with a stranger's file.
    """
    fields: dict[str, str] = {}
    name = ""
    for line in block.split("\n"):
        item = line.strip()
        match = _FIELD.fullmatch(line.rstrip())
        if match is not None and len(fields) < _FIELDS:
            name = match[1].strip().lower()
            fields[name] = _scalar(match[2] or "")
        elif item.startswith("- ") and name in fields:
            value = _scalar(item[2:])
            fields[name] = f"{fields[name]}, {value}" if fields[name] else value
    return {name: value for name, value in fields.items() if value}


def _scalar(value: str) -> str:
    value = value.strip()
    if value.startswith("[") and value.endswith("]"):
        return ", ".join(_scalar(part) for part in value[1:-1].split(",") if part.strip())
    quoted = _QUOTED.fullmatch(value)
    return quoted[2] if quoted is not None else value
