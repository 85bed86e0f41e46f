"""What a pack of rules may hold: data, checked where it enters."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints


Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Phrase = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Phrases = Annotated[tuple[Phrase, ...], Field(min_length=1, max_length=500)]
Ranks = Annotated[tuple[Phrases, ...], Field(min_length=1, max_length=10)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DocumentKind(_Part):
    """A kind of text: asked for by these features, or with one of these phrases at its top."""

    features: tuple[Phrase, ...] = ()
    headings: tuple[Phrase, ...] = ()


class _Rule(_Part):
    name: Name


class SectionRule(_Rule):
    """A document must say something under one of these labels."""

    kind: Literal["section"]
    document: Name
    labels: Phrases


class MatrixRule(_Rule):
    """Of three labelled values, the third must be what a table makes of the other two.

    Attributes:
        levels: Words for the rows and columns of the table, in their order.
        results: Words for the results; a number n in the table means the nth of them.
    """

    kind: Literal["matrix"]
    document: Name
    rows: Phrase
    columns: Phrase
    result: Phrase
    matrix: tuple[tuple[int, ...], ...]
    levels: Ranks
    results: Ranks


class OrderRule(_Rule):
    """Whoever names one of the steps must have named one of the first ones before.

    Attributes:
        steps: What must not come first.
        first: What must come before them.
        unless_before: Words in front of either with which it does not count, such as `never`.
        unless_inside: The same of the words for which its `...` stands.
        joined_by: Words by which a sentence says that a first one comes before the step that it
            names before it: "reset it only after …".
    """

    kind: Literal["order"]
    steps: Phrases
    first: Phrases
    unless_before: tuple[Phrase, ...] = ()
    unless_inside: tuple[Phrase, ...] = ()
    joined_by: tuple[Phrase, ...] = ()


class ForbiddenRule(_Rule):
    """No text may say one of these.

    Attributes:
        phrases: What must not be said.
        unless_before: Words in front of one with which it may be said, such as `never`.
        unless_inside: The same of the words for which its `...` stands.
        unless_after: The same of the words behind it in its sentence, such as `refused`.
    """

    kind: Literal["forbidden"]
    phrases: Phrases
    unless_before: tuple[Phrase, ...] = ()
    unless_inside: tuple[Phrase, ...] = ()
    unless_after: tuple[Phrase, ...] = ()


class PatternRule(_Rule):
    """No text may match one of these expressions (RE2 syntax)."""

    kind: Literal["pattern"]
    patterns: Phrases


AnyRule = Annotated[
    SectionRule | MatrixRule | OrderRule | ForbiddenRule | PatternRule, Field(discriminator="kind")
]


class PackData(_Part):
    """A pack as its file has it."""

    name: Name
    version: Phrase
    documents: dict[Name, DocumentKind] = Field(default_factory=dict)
    rules: Annotated[tuple[AnyRule, ...], Field(min_length=1, max_length=500)]
