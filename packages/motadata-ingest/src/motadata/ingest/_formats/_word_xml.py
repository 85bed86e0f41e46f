"""The small parts of an OOXML package: where its main part is, what it is called, who wrote it."""

from __future__ import annotations

from typing import Final
from xml.sax.handler import ContentHandler
from xml.sax.xmlreader import AttributesNSImpl


Name = tuple[str | None, str]

WORD: Final = frozenset(
    {
        "http://schemas.openxmlformats.org/wordprocessingml/2006/main",
        "http://purl.oclc.org/ooxml/wordprocessingml/main",
    }
)
_PROPERTY_CHARACTERS: Final = 500


def word_value(attributes: AttributesNSImpl, name: str) -> str | None:
    """Return an attribute of WordprocessingML by its local name."""
    for (namespace, local), value in attributes.items():
        if local == name and (namespace in WORD or namespace is None):
            return str(value)
    return None


def is_on(attributes: AttributesNSImpl) -> bool:
    """Read a toggle property, which is on unless its value says otherwise."""
    return word_value(attributes, "val") not in {"0", "false", "off", "none"}


class RelationsReader(ContentHandler):
    """Finds the main part of the package."""

    def __init__(self) -> None:
        super().__init__()
        self.main_part = "word/document.xml"

    def startElementNS(self, name: Name, qname: str | None, attributes: AttributesNSImpl) -> None:  # noqa: N802 - SAX's name
        """Take in one relation."""
        del qname
        values = {local: str(value) for (_, local), value in attributes.items()}
        if name[1] == "Relationship" and values.get("Type", "").endswith("/officeDocument"):
            self.main_part = values.get("Target", self.main_part).lstrip("/")


class PropertiesReader(ContentHandler):
    """Reads title and author of the document."""

    def __init__(self) -> None:
        super().__init__()
        self._texts = {"title": "", "creator": ""}
        self._open = ""

    @property
    def title(self) -> str:
        """What the document calls itself."""
        return self._texts["title"]

    @property
    def author(self) -> str:
        """Who wrote it."""
        return self._texts["creator"]

    def startElementNS(self, name: Name, qname: str | None, attributes: AttributesNSImpl) -> None:  # noqa: N802 - SAX's name
        """Open a property."""
        del qname, attributes
        self._open = name[1]

    def endElementNS(self, name: Name, qname: str | None) -> None:  # noqa: N802 - SAX's name
        """Close it."""
        del name, qname
        self._open = ""

    def characters(self, content: str) -> None:
        """Add to the open property."""
        if self._open in self._texts and len(self._texts[self._open]) < _PROPERTY_CHARACTERS:
            self._texts[self._open] += content
