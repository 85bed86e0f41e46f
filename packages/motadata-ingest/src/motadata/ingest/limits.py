"""What one file, and one upload, may cost."""

from __future__ import annotations

from dataclasses import dataclass, fields

from motadata.core.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on what is read; what goes beyond one is refused, never cut.

    Attributes:
        file_bytes: Largest file.
        unpacked_bytes: Most bytes that a container such as DOCX may unpack to.
        characters: Most characters of text that a document may have.
        sections: Most pages and headings that a document may have.
        files: Most files of one folder.
        seconds: Longest time for reading one file, on the clock and on the processor.
        memory_bytes: Address space of the process that reads a file, the interpreter included.

    Raises:
        ConfigurationError: A bound is not positive.
    """

    file_bytes: int = 100 * 2**20
    unpacked_bytes: int = 400 * 2**20
    characters: int = 10_000_000
    sections: int = 10_000
    files: int = 100_000
    seconds: float = 60.0
    memory_bytes: int = 2**30

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if not value > 0:
                message = f"The limit {item.name} is {value!r}."
                raise ConfigurationError(message, remedy="Give a number above zero.")
