"""Finds telephone numbers that are dialled somewhere; extra `guardrails`."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Final

from motadata.core.errors import ConfigurationError, MissingExtraError
from motadata.core.protocols import GuardedText


_WITH_COUNTRY: Final = re.compile(r"\+[0-9(][0-9 ().\-/]{5,24}[0-9]")
_ANY: Final = re.compile(r"[+(]?[0-9][0-9 ().\-/]{5,24}[0-9]")
_LAST_GROUP: Final = re.compile(r"[ ().\-/]+[0-9]+\Z")
_MOST_TRIES: Final = 3


class PhoneFinder:
    """Finds the numbers of a region, and those of all others with their country code.

    Args:
        region: Two capitals, such as `IN`; None finds numbers with a country code only.

    Raises:
        ConfigurationError: There is no such region.
        MissingExtraError: `phonenumbers` is not installed.
    """

    def __init__(self, region: str | None) -> None:
        self._numbers = _library()
        if region is not None and region not in self._numbers.SUPPORTED_REGIONS:
            message = f"There is no region {region!r}."
            raise ConfigurationError(message, remedy="Pass two capitals, such as 'IN'.")
        self._region = region

    def find(self, about: GuardedText, _digits: object) -> Iterator[tuple[int, int]]:
        """Yield where numbers begin and end."""
        text = about.text
        if self._region is None and "+" not in text:
            return
        pattern = _WITH_COUNTRY if self._region is None else _ANY
        for found in pattern.finditer(text):
            start, end = found.span()
            before, behind = text[start - 1 : start], text[end : end + 1]
            if before.isalnum() or before in ("-", "_", "."):
                continue
            if behind.isalnum():
                # Its last group is the beginning of a word.
                shorter = _LAST_GROUP.search(text, start, end)
                end = start if shorter is None else shorter.start()
            for _ in range(_MOST_TRIES):
                if self._is_number(text[start:end]):
                    yield start, end
                    break
                shorter = _LAST_GROUP.search(text, start, end)
                if shorter is None:
                    break
                end = shorter.start()

    def _is_number(self, written: str) -> bool:
        try:
            number = self._numbers.parse(written, self._region)
        except self._numbers.NumberParseException:
            return False
        return bool(self._numbers.is_valid_number(number))


def _library() -> ModuleType:
    try:
        return importlib.import_module("phonenumbers")
    except ModuleNotFoundError as error:
        package = "phonenumbers"
        raise MissingExtraError(
            package, extra="guardrails", distribution="motadata-gateway"
        ) from error
