"""PDF and DOCX: text, pages, headings, and what other readers drop."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable

import pytest

from motadata.core.errors import EmptyFileError, FileTooLargeError, UnreadableFileError
from motadata.ingest import Limits
from motadata.ingest._parse import parse


LIMITS = Limits()
Maker = Callable[..., bytes]
Paragraph = Callable[..., str]
STYLES = (
    '<w:style w:styleId="H1"><w:name w:val="heading 1"/></w:style>'
    '<w:style w:styleId="Mine"><w:name w:val="My heading"/><w:basedOn w:val="H1"/></w:style>'
    '<w:style w:styleId="H2"><w:name w:val="Custom"/><w:outlineLvl w:val="1"/></w:style>'
    '<w:style w:styleId="T"><w:name w:val="Title"/></w:style>'
)
NUMBERING = (
    '<w:abstractNum w:abstractNumId="1"><w:lvl w:ilvl="0"><w:numFmt w:val="decimal"/></w:lvl>'
    '<w:lvl w:ilvl="1"><w:numFmt w:val="bullet"/></w:lvl></w:abstractNum>'
    '<w:num w:numId="5"><w:abstractNumId w:val="1"/></w:num>'
)


def item(level: int) -> str:
    return f'<w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="5"/></w:numPr>'


def test_docx_headings_become_nested_sections(make_docx: Maker, paragraph: Paragraph):
    body = (
        paragraph("Change guide", '<w:pStyle w:val="T"/>')
        + paragraph("Approval", '<w:pStyle w:val="Mine"/>')
        + paragraph("The board approves.")
        + paragraph("Emergencies", '<w:pStyle w:val="H2"/>')
        + paragraph("Call the manager.")
    )

    document = parse(make_docx(body, styles=STYLES), "guide.docx", LIMITS)

    found = {heading: document.text[start:end] for start, end, _, heading in document.sections}
    assert found == {
        "Approval": "Approval\n\nThe board approves.",
        "Approval > Emergencies": "Emergencies\n\nCall the manager.",
    }
    assert document.title == "Change guide"


def test_docx_lists_count_and_tables_keep_their_rows(make_docx: Maker, paragraph: Paragraph):
    cells = "".join(f"<w:tc>{paragraph(text)}</w:tc>" for text in ("Name", "Port"))
    body = (
        paragraph("First", item(0))
        + paragraph("inner", item(1))
        + paragraph("Second", item(0))
        + f"<w:tbl><w:tr>{cells}</w:tr><w:tr>{cells}</w:tr></w:tbl>"
    )

    document = parse(make_docx(body, numbering=NUMBERING), "list.docx", LIMITS)

    assert document.text == "1. First\n  - inner\n2. Second\nName | Port\nName | Port"


def test_docx_text_boxes_notes_and_comments_are_kept(make_docx: Maker, paragraph: Paragraph):
    box = f"<w:txbxContent>{paragraph('In the box')}</w:txbxContent>"
    body = (
        "<w:p><w:r><w:t>Anchor</w:t><w:footnoteReference w:id='2'/>"
        f"<mc:AlternateContent><mc:Choice>{box}</mc:Choice><mc:Fallback>{box}</mc:Fallback>"
        "</mc:AlternateContent></w:r></w:p>"
    )

    document = parse(
        make_docx(
            body,
            footnotes=f'<w:footnote w:id="2">{paragraph("The note")}</w:footnote>',
            comments=f'<w:comment w:author="Ada">{paragraph("Why so?")}</w:comment>',
        ),
        "notes.docx",
        LIMITS,
    )

    assert document.text.count("In the box") == 1
    assert "Anchor[2]" in document.text
    assert "Footnotes\n\n[2] The note" in document.text
    assert "Comments\n\nAda: Why so?" in document.text


def test_docx_deleted_and_hidden_text_is_dropped(make_docx: Maker):
    body = (
        "<w:p><w:r><w:t>Kept</w:t></w:r><w:del><w:r><w:delText>gone</w:delText></w:r></w:del>"
        "<w:moveFrom><w:r><w:t>moved</w:t></w:r></w:moveFrom>"
        "<w:r><w:rPr><w:vanish/></w:rPr><w:t>secret order</w:t></w:r></w:p>"
    )

    document = parse(make_docx(body), "x.docx", LIMITS)

    assert document.text == "Kept"
    assert document.metadata == {"hidden_runs": "1"}


def test_docx_under_another_name_is_recognised(make_docx: Maker, paragraph: Paragraph):
    content = make_docx(paragraph("Real text"))

    assert parse(content, "upload.pdf", LIMITS).text == "Real text"


def test_docx_without_main_part_is_unreadable():
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr("word/other.xml", "<a/>")

    with pytest.raises(UnreadableFileError, match="main part"):
        parse(written.getvalue(), "x.docx", LIMITS)


@pytest.mark.parametrize(
    "prologue",
    [
        '<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE d [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>',
    ],
    ids=["outside-reference", "billion-laughs"],
)
def test_docx_with_entities_is_refused(make_docx: Maker, paragraph: Paragraph, prologue: str):
    written = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(make_docx(paragraph("x")))) as original,
        zipfile.ZipFile(written, "w") as copy,
    ):
        for name in original.namelist():
            content = original.read(name).decode()
            hostile = prologue + content.replace(">x<", ">&b;<") if "document" in name else content
            copy.writestr(name, hostile)

    with pytest.raises(UnreadableFileError, match="entities"):
        parse(written.getvalue(), "x.docx", LIMITS)


def test_docx_bomb_is_refused_while_it_unpacks(make_docx: Maker):
    bomb = make_docx("<w:p/>" * 4_000_000)

    with pytest.raises(FileTooLargeError, match="unpacks"):
        parse(bomb, "bomb.docx", Limits(unpacked_bytes=2**20))


def test_docx_with_endless_text_is_refused(make_docx: Maker, paragraph: Paragraph):
    with pytest.raises(FileTooLargeError, match="characters"):
        parse(make_docx(paragraph("a" * 50_000)), "x.docx", Limits(characters=10_000))


def test_cut_docx_is_unreadable(make_docx: Maker, paragraph: Paragraph):
    content = make_docx(paragraph("Some text here"))

    with pytest.raises(UnreadableFileError):
        parse(content[: len(content) // 2], "x.docx", LIMITS)


def test_encrypted_office_file_is_unreadable():
    content = (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600 + "EncryptedPackage".encode("utf-16-le")
    )

    with pytest.raises(UnreadableFileError, match="encrypted"):
        parse(content, "x.docx", LIMITS)


def test_pdf_pages_become_sections(make_pdf: Maker):
    content = make_pdf([["Page one."], ["Page two."]], title="A guide")

    document = parse(content, "guide.pdf", LIMITS)

    assert document.text == "Page one.\n\nPage two."
    assert document.sections == [(0, 9, 1, None), (11, 20, 2, None)]
    assert (document.title, document.media_type) == ("A guide", "application/pdf")
    assert document.metadata == {"pages": "2"}


def test_pdf_outline_splits_pages_at_headings(make_pdf: Maker):
    pages = [["Start.", "1 Purpose", "Why."], ["More.", "2 Scope", "What."]]
    content = make_pdf(pages, outline=[("1 Purpose", 1), ("Scope", 2)])

    document = parse(content, "guide.pdf", LIMITS)

    found = [(page, heading, document.text[a:b]) for a, b, page, heading in document.sections]
    assert found == [
        (1, None, "Start."),
        (1, "1 Purpose", "1 Purpose\n\nWhy."),
        (2, "1 Purpose", "More."),
        (2, "Scope", "2 Scope\n\nWhat."),
    ]


def test_pdf_running_headers_and_page_numbers_are_dropped(make_pdf: Maker):
    pages = [["Handbook", f"Text of page {at}.", f"Page {at} of 6"] for at in range(1, 7)]

    document = parse(make_pdf(pages), "handbook.pdf", LIMITS)

    assert document.text.count("Handbook") == 1
    assert " of 6" not in document.text
    assert document.text.count("Text of page") == 6


def test_pdf_broken_words_and_lines_are_mended(make_pdf: Maker):
    lines = [
        "The incident response team handles every major disrup-",
        "tion of the service and reports it to the man-",
        "agement, with a post-",
        "mortem. A post-mortem is written.",
        "Next sentence.",
    ]

    document = parse(make_pdf([lines]), "x.pdf", LIMITS)

    assert "major disruption of the service" in document.text
    assert "the management, with a post-mortem." in document.text
    assert "written.\nNext sentence." in document.text


def test_pdf_without_text_is_said_to_look_scanned(make_pdf: Maker):
    with pytest.raises(EmptyFileError, match="scanned"):
        parse(make_pdf([[], []]), "scan.pdf", LIMITS)


def test_pdf_pages_without_text_are_counted(make_pdf: Maker):
    assert parse(make_pdf([["Text."], []]), "x.pdf", LIMITS).metadata["pages_without_text"] == "1"


def test_pdf_under_another_name_is_recognised(make_pdf: Maker):
    assert parse(make_pdf([["Real text."]]), "notes.txt", LIMITS).text == "Real text."


def test_pdf_title_of_a_word_processor_is_not_taken(make_pdf: Maker):
    content = make_pdf([["Text."]], title="Microsoft Word - draft.doc")

    assert parse(content, "policy.pdf", LIMITS).title == "policy"


def test_encrypted_pdf_is_unreadable(make_pdf: Maker):
    lock = f"/Encrypt << /Filter /Standard /V 1 /R 2 /O <{'ab' * 32}> /U <{'cd' * 32}> /P -4 >> "
    content = make_pdf([["Secret."]], trailer=f"{lock} /ID [<{'00' * 16}> <{'00' * 16}>]")

    with pytest.raises(UnreadableFileError, match="encrypted"):
        parse(content, "x.pdf", LIMITS)


@pytest.mark.parametrize("content", [b"%PDF-1.7\n", b"%PDF-1.4\n" + b"junk " * 400])
def test_pdf_header_alone_is_unreadable(content: bytes):
    with pytest.raises(UnreadableFileError, match="damaged"):
        parse(content, "x.pdf", LIMITS)


def test_cut_pdf_is_read_or_refused_but_never_worse(make_pdf: Maker):
    content = make_pdf([["Some text."]] * 5)

    for share in (0.2, 0.5, 0.9):
        try:
            document = parse(content[: int(len(content) * share)], "x.pdf", LIMITS)
        except (UnreadableFileError, EmptyFileError):
            continue
        assert "Some text." in document.text


def test_page_limit_is_kept(make_pdf: Maker):
    with pytest.raises(FileTooLargeError, match="more than 3 pages"):
        parse(make_pdf([["x"]] * 4), "x.pdf", Limits(sections=3))
