"""What an application decides once: how much is logged, in which form, and where traces go."""

from __future__ import annotations

import logging
from typing import Literal, TextIO

from motadata.core.observability._logging import output


LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


def configure_observability(
    *,
    level: LogLevel = "INFO",
    json: bool = True,
    service_name: str = "motadata",
    stream: TextIO | None = None,
) -> None:
    """Say how much is logged and where; calling it again replaces what was said before."""
    output.level = logging.getLevelNamesMapping()[level]
    output.json = json
    output.service = service_name
    output.stream = stream
