"""The contract of a document loader as tests: subclass and give the fixture `loader`.

    class TestMine(DocumentLoaderConformance):
        @pytest.fixture
        async def loader(self) -> AsyncIterator[DocumentLoader]:
            async with create_mine() as mine:
                yield mine

Plain text and Markdown are all that a loader must read to pass.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from motadata.core.errors import EmptyFileError, IngestionError
from motadata.core.protocols import DocumentLoader


_MARKDOWN = b"# Tokens\n\nOpen the portal.\n\n## Reset\n\nChoose *Reset*.\n"
_HOSTILE = (
    b"\x00\x01\x02\x03" * 64,
    b"%PDF-1.7\n",
    b"PK\x03\x04" + b"\xff" * 64,
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\x00" * 64,
    b"\x89PNG\r\n\x1a\n" + b"\x00" * 64,
)


class DocumentLoaderConformance:
    """What every implementation of `motadata.core.protocols.DocumentLoader` must do."""

    @pytest.fixture
    def loader(self) -> DocumentLoader:
        """Supply the implementation, entered."""
        message = "A subclass supplies the fixture `loader`."
        raise NotImplementedError(message)

    async def test_text_is_returned_with_its_source(self, loader: DocumentLoader) -> None:
        document = await loader.load(b"A paper jam is cleared in tray two.", source="jam.txt")

        assert document.text == "A paper jam is cleared in tray two."
        assert document.source == "jam.txt"
        assert document.media_type == "text/plain"

    async def test_path_and_bytes_give_the_same_document(
        self, loader: DocumentLoader, tmp_path: Path
    ) -> None:
        path = tmp_path / "tokens.md"
        path.write_bytes(_MARKDOWN)

        from_path = await loader.load(path, source="tokens.md")

        assert from_path == await loader.load(_MARKDOWN, source="tokens.md")

    async def test_same_content_gives_the_same_document(self, loader: DocumentLoader) -> None:
        first = await loader.load(_MARKDOWN, source="tokens.md")

        assert first == await loader.load(_MARKDOWN, source="tokens.md")

    async def test_sections_are_ordered_apart_and_within_the_text(
        self, loader: DocumentLoader
    ) -> None:
        document = await loader.load(_MARKDOWN, source="tokens.md")

        end = 0
        for section in document.sections:
            assert end <= section.start < section.end <= len(document.text)
            end = section.end
        assert any("Reset" in (section.heading or "") for section in document.sections)

    async def test_text_can_be_stored(self, loader: DocumentLoader) -> None:
        document = await loader.load(b"One\x00 line.\r\nAnother line.", source="mixed.txt")

        assert "\0" not in document.text
        assert "\r" not in document.text
        assert document.text.encode()

    @pytest.mark.parametrize("content", [b"", b" \n\t\n "], ids=["no-bytes", "blanks"])
    async def test_nothing_is_refused_as_empty(
        self, loader: DocumentLoader, content: bytes
    ) -> None:
        with pytest.raises(EmptyFileError):
            await loader.load(content, source="empty.txt")

    @pytest.mark.parametrize("content", _HOSTILE, ids=["binary", "pdf", "zip", "ole", "png"])
    async def test_what_cannot_be_read_is_refused_by_kind(
        self, loader: DocumentLoader, content: bytes
    ) -> None:
        with pytest.raises(IngestionError) as caught:
            await loader.load(content, source="upload.bin")

        assert caught.value.remedy

    async def test_missing_path_is_refused(self, loader: DocumentLoader, tmp_path: Path) -> None:
        with pytest.raises(IngestionError, match="nowhere"):
            await loader.load(tmp_path / "nowhere.txt", source="nowhere.txt")

    async def test_refusal_leaves_the_loader_working(self, loader: DocumentLoader) -> None:
        with pytest.raises(IngestionError):
            await loader.load(_HOSTILE[0], source="upload.bin")

        document = await loader.load(b"Still here.", source="after.txt")

        assert document.text == "Still here."

    async def test_many_files_at_once_do_not_mix(self, loader: DocumentLoader) -> None:
        contents = [f"This is file {number}.".encode() for number in range(20)]

        documents = await asyncio.gather(
            *(loader.load(content, source=f"{at}.txt") for at, content in enumerate(contents))
        )

        assert [document.text.encode() for document in documents] == contents
        assert [document.source for document in documents] == [f"{at}.txt" for at in range(20)]
