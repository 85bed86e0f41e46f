"""Which guardrails apply, as one value that names itself."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from motadata.core.errors import ConfigurationError
from motadata.core.protocols import Guardrail
from motadata.gateway.guardrails._chain import Chain


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GuardrailPolicy:
    """The guardrails of what is asked and of what is answered, in their order.

    Build one once and use it for many calls.

    Attributes:
        inputs: Judge what is asked: each message, passage and text to embed.
        outputs: Judge what is answered: its text and the arguments of tools that it calls.
        timeout: Seconds for guardrails that wait, for one text; those of this package never wait.
        version: Digest of what makes it up; answers are cached and shared under equal ones only.

    Raises:
        ConfigurationError: Two guardrails of a stage have the same name, or `timeout` is not
            positive.
    """

    inputs: Sequence[Guardrail] = ()
    outputs: Sequence[Guardrail] = ()
    timeout: float = 5.0
    version: str = field(init=False)
    input_chain: Chain = field(init=False, repr=False)
    window_chain: Chain = field(init=False, repr=False)
    whole_chain: Chain = field(init=False, repr=False)
    late_chain: Chain = field(init=False, repr=False)
    output_chain: Chain = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Put the guardrails into chains, and name the whole."""
        if not self.timeout > 0:
            message = f"timeout={self.timeout!r} is not positive."
            raise ConfigurationError(message, remedy="Pass a number of seconds.")
        outputs = Chain(self.outputs, timeout=self.timeout)
        chains = {
            "input_chain": Chain(self.inputs, timeout=self.timeout),
            "output_chain": outputs,
            "window_chain": outputs.only("window"),
            "whole_chain": outputs.only("whole"),
            "late_chain": outputs.only("afterwards"),
        }
        for name, chain in chains.items():
            object.__setattr__(self, name, chain)
        object.__setattr__(self, "version", self._digest())

    def _digest(self) -> str:
        parts = [
            (stage, guardrail.name, guardrail.revision)
            for stage, guardrails in (("input", self.inputs), ("output", self.outputs))
            for guardrail in guardrails
        ]
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:32] if parts else ""
