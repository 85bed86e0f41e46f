"""Guardrails: what a gateway is asked and what it answers, judged before it goes on.

    guardrails = Guardrails(
        [PersonalData("tokenise"), Secrets("refuse"), InjectionSignal()],
        [PersonalData("mask"), Secrets("mask"), CompliancePack("itil")],
    )
    governance = Governance(
        guardrail_inputs=guardrails.inputs, guardrail_outputs=guardrails.outputs
    )

Each is a `motadata.core.protocols.Guardrail`; one of yours stands beside them in the same list.
Expressions, schemas and telephone numbers need the extra `guardrails`, languages `language`.
"""

from motadata.gateway.guardrails._content import ContentFilter, InjectionSignal, WordFilter
from motadata.gateway.guardrails._formats import JsonFormat, Length, PatternFormat
from motadata.gateway.guardrails._language import Language
from motadata.gateway.guardrails._packs import CompliancePack
from motadata.gateway.guardrails._parts import (
    GuardedInputs,
    GuardedOutputs,
    Guardrails,
    PolicyFor,
)
from motadata.gateway.guardrails._patterns import ForbiddenPattern
from motadata.gateway.guardrails._personal_data import PersonalData
from motadata.gateway.guardrails._policy import GuardrailPolicy
from motadata.gateway.guardrails._secrets import Secrets


__all__ = [
    "CompliancePack",
    "ContentFilter",
    "ForbiddenPattern",
    "GuardedInputs",
    "GuardedOutputs",
    "GuardrailPolicy",
    "Guardrails",
    "InjectionSignal",
    "JsonFormat",
    "Language",
    "Length",
    "PatternFormat",
    "PersonalData",
    "PolicyFor",
    "Secrets",
    "WordFilter",
]
