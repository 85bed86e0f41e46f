"""Plain text: one piece, as it is."""

from __future__ import annotations

from motadata.ingest._draft import Budget, Draft, Piece


def read_plain(text: str, budget: Budget) -> Draft:
    """Return the text as a draft of one piece.

    Raises:
        FileTooLargeError: It is longer than the limit.
    """
    return Draft("text/plain", pieces=[Piece(budget.spend(text))])
