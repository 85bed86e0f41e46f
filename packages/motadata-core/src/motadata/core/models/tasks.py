"""What is asked of an agent and what it returns."""

from __future__ import annotations

from dataclasses import dataclass

from motadata.core.models._record import Record
from motadata.core.models.completions import Usage


@dataclass(frozen=True, slots=True)
class TaskResult(Record):
    """What an agent made of a task."""

    task_id: str
    task_type: str
    output: str
    usage: Usage = Usage()
    trace_id: str | None = None
