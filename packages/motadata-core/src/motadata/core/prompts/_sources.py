"""Where templates come from: the protocol of a source, and a folder of files."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import tomllib
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from motadata.core.errors import PromptTemplateError
from motadata.core.prompts._limits import PromptLimits
from motadata.core.prompts._template import PromptTemplate
from motadata.core.prompts._values import PlainValue
from motadata.core.tenancy import Identifier, TenantId


_FILE: Final = re.compile(r"([1-9][0-9]{0,9})\.md", re.ASCII)
_FRONT: Final = re.compile(r"\A\+\+\+[ \t]*\n(.*?)^\+\+\+[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_MOST_BYTES: Final = 1_000_000
_MOST_KEPT: Final = 256


class PromptSource(Protocol):
    """A place in which `PromptLibrary` looks for templates."""

    async def find(
        self, name: Identifier, version: int | None, tenant: TenantId
    ) -> PromptTemplate | None:
        """Return a version of a template, the active one when None; None when it is not here.

        Raises:
            PromptTemplateError: It is here, and unfit.
        """
        ...


@dataclass(frozen=True, slots=True)
class FilePrompts:
    """Templates in files, the same for all tenants: `<directory>/<name>/<version>.md`.

    A file may begin with a declaration in TOML between two lines `+++`: `description`, `required`,
    `trusted`, and a table `defaults`. The active version is the highest unless `active` says
    otherwise. Files are read anew each time, so that an editor's changes show at once.

    Attributes:
        directory: The folder of folders.
        active: The version to use instead of the highest, by name.
        limits: How much a rendering may take.
    """

    directory: Path
    active: dict[str, int] = field(default_factory=dict)
    limits: PromptLimits = field(default_factory=PromptLimits)
    _workshop: Workshop = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Make room for templates that were compiled."""
        object.__setattr__(self, "_workshop", Workshop(self.limits))

    async def find(
        self, name: Identifier, version: int | None, tenant: TenantId
    ) -> PromptTemplate | None:
        """Return a version of a template, the active one when None; None when there is no file.

        Raises:
            PromptTemplateError: The file cannot be read, or does not hold a template.
        """
        del tenant  # Files are the platform's own, and no tenant's.
        wanted = self.active.get(name) if version is None else version
        return await asyncio.to_thread(self._load, name, wanted)

    def _load(self, name: Identifier, version: int | None) -> PromptTemplate | None:
        folder = self.directory / name
        if version is None:
            # An identifier has no separator and no dots: it leads to no other folder.
            matches = (_FILE.fullmatch(path.name) for path in _entries(folder))
            version = max((int(match.group(1)) for match in matches if match), default=None)
        if version is None:
            return None
        path = folder / f"{version}.md"
        try:
            with path.open("rb") as file:
                data = file.read(_MOST_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            message = f"The file {path.name!r} of the prompt {name!r} cannot be read."
            raise PromptTemplateError(message, remedy="Check its rights.") from error
        if len(data) > _MOST_BYTES:
            message = f"The file {path.name!r} of the prompt {name!r} exceeds {_MOST_BYTES} bytes."
            raise PromptTemplateError(message, remedy="Shorten it.")
        try:
            text = data.decode("utf-8-sig").replace("\r\n", "\n")
        except UnicodeDecodeError as error:
            message = f"The file {path.name!r} of the prompt {name!r} is not UTF-8."
            raise PromptTemplateError(message, remedy="Save it as UTF-8.") from error
        declaration, text = _split(name, version, text)
        return self._workshop.template(name, version, text, declaration)


class Declaration(BaseModel):
    """What a stored template declares beside its text."""

    model_config = ConfigDict(extra="forbid")

    description: str = ""
    required: list[str] | None = None
    defaults: dict[str, object] = {}
    trusted: list[str] = []


class Workshop:
    """Makes templates from their stored parts, and keeps the last 256; safe between threads.

    What is kept is found by all of its parts, so that whoever finds it could have made it.
    """

    def __init__(self, limits: PromptLimits) -> None:
        self._limits = limits
        self._kept: OrderedDict[tuple[str, int, str, str], PromptTemplate] = OrderedDict()
        self._lock = threading.Lock()

    def template(self, name: str, version: int, text: str, declaration: object) -> PromptTemplate:
        """Return a template.

        Raises:
            PromptTemplateError: The declaration does not fit, or the text is no template.
        """
        # What JSON does not have, such as TOML's dates, no declaration has either.
        key = (name, version, text, json.dumps(declaration, sort_keys=True, default=repr))
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                return kept
        made = _template_of(name, version, text, declaration, self._limits)
        with self._lock:
            self._kept[key] = made
            if len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        return made


def _template_of(
    name: str, version: int, text: str, declaration: object, limits: PromptLimits
) -> PromptTemplate:
    try:
        declared = Declaration.model_validate(declaration)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        message = (
            f"The prompt {name!r} version {version} declares {where!r} wrongly: {first['msg']}."
        )
        raise PromptTemplateError(message, remedy="Correct its declaration.") from None
    defaults: dict[str, PlainValue] = declared.defaults  # type: ignore[assignment]  # checked by the template
    return PromptTemplate(
        name,
        text,
        version=version,
        required=declared.required,
        defaults=defaults,
        trusted=declared.trusted,
        description=declared.description,
        limits=limits,
    )


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _split(name: str, version: int, text: str) -> tuple[dict[str, object], str]:
    """Return what stands in front of a template, and its text."""
    match = _FRONT.match(text)
    declaration: dict[str, object] = {}
    if match:
        try:
            declaration = tomllib.loads(match.group(1))
        except tomllib.TOMLDecodeError as error:
            message = (
                f"The declaration of the prompt {name!r} version {version} is no TOML: {error}."
            )
            raise PromptTemplateError(message, remedy="Correct it.") from error
        text = text[match.end() :]
    return declaration, text.removesuffix("\n")
