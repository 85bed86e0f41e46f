"""What prompts, their variants and context windows raise."""

from __future__ import annotations

from motadata.core.errors._base import SDKError


class PromptError(SDKError):
    """Base of what prompts, their variants and context windows raise."""

    code = "prompt_error"
    component = "prompts"


class PromptNotFoundError(PromptError):
    """There is no template of that name, or not in that version."""

    code = "prompt_not_found"


class PromptTemplateError(PromptError):
    """A template is malformed, uses what templates may not, or contradicts its stored version."""

    code = "prompt_template_error"


class PromptVariableError(PromptError):
    """Variables are missing, unknown or of a kind that no template can show.

    Args:
        missing: Required variables that were not given.
        unknown: Given variables that the template does not have.
    """

    code = "prompt_variable_error"

    def __init__(
        self,
        message: str,
        *,
        missing: tuple[str, ...] = (),
        unknown: tuple[str, ...] = (),
        remedy: str | None = None,
        tenant_id: str | None = None,
    ) -> None:
        super().__init__(message, remedy=remedy, tenant_id=tenant_id)
        self.missing = missing
        self.unknown = unknown


class PromptLimitError(PromptError):
    """Rendering would take more time or space than a prompt is worth."""

    code = "prompt_limit_exceeded"


class ContextWindowError(PromptError):
    """What must be in the context window does not fit into its budget."""

    code = "context_window_exceeded"
