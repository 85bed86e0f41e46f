"""One door for questions: sends each to the documents, to the agent, or to both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

from motadata.api.schemas import QueryMode, UsedMode
from motadata.core.errors import ConfigurationError
from motadata.core.models import Answer, TaskResult
from motadata.core.platform import Platform
from motadata.core.protocols import Agent, KnowledgeBase


_TASK: Final = "answer_question"


class ModeNotAvailableError(ConfigurationError):
    """A question asks for a component that the platform does not have."""

    code = "mode_not_available"

    def __init__(self, mode: str, *, missing: str) -> None:
        super().__init__(
            f"The mode {mode!r} needs a component that is not installed: {missing}.",
            remedy="Use mode 'auto' or 'rag', or add the component to the platform.",
        )


@dataclass(frozen=True, slots=True)
class UnifiedAnswer:
    """An answer and who gave it; `answer` is what the documents say, `task` what the agent says."""

    mode: UsedMode
    answer: Answer | None = None
    task: TaskResult | None = None


class UnifiedQuery:
    """Routes a question.

    - `rag` asks the documents, `agent` the agent.
    - `both` asks the documents first and hands what they say to the agent, which words the answer.
    - `auto` asks the documents, and the agent when they do not know and there is one.

    Args:
        knowledge_base: The documents, if there are any.
        agent: The agent, if there is one.
    """

    def __init__(self, knowledge_base: KnowledgeBase | None, agent: Agent | None) -> None:
        self._knowledge_base = knowledge_base
        self._agent = agent

    @classmethod
    def of(cls, platform: Platform) -> UnifiedQuery:
        """Route between what the open platform has."""
        return cls(
            platform.knowledge_base if platform.has("knowledge_base") else None,
            cast("Agent", platform.component("agent")) if platform.has("agent") else None,
        )

    async def ask(
        self,
        query: str,
        *,
        mode: QueryMode = "auto",
        limit: int = 8,
        document_ids: Sequence[str] = (),
        tenant_id: str | None = None,
    ) -> UnifiedAnswer:
        """Answer a question.

        Args:
            query: The question.
            mode: Who answers.
            limit: How many passages the answer may rest on.
            document_ids: Narrows the search to these documents.
            tenant_id: None means the tenant of the scope.

        Raises:
            ModeNotAvailableError: The mode needs a component that is not there.
            SDKError: What the knowledge base or the agent raises.
        """
        if mode == "agent":
            return UnifiedAnswer("agent", task=await self._ask_agent(query, None, tenant_id))
        if mode == "both":
            self._require_agent(mode)
        if self._knowledge_base is None:
            if mode == "auto" and self._agent is not None:
                return UnifiedAnswer("agent", task=await self._ask_agent(query, None, tenant_id))
            raise ModeNotAvailableError(mode, missing="knowledge base")
        answer = await self._knowledge_base.query(
            query, limit=limit, document_ids=document_ids, tenant_id=tenant_id
        )
        if mode == "rag" or (mode == "auto" and (answer.answered or self._agent is None)):
            return UnifiedAnswer("rag", answer=answer)
        task = await self._ask_agent(query, answer, tenant_id)
        return UnifiedAnswer("both" if mode == "both" else "agent", answer=answer, task=task)

    async def _ask_agent(
        self, query: str, answer: Answer | None, tenant_id: str | None
    ) -> TaskResult:
        parameters: dict[str, object] = {"query": query}
        if answer is not None and answer.answered:
            parameters["context"] = answer.answer
            parameters["citations"] = [citation.to_dict() for citation in answer.citations]
        return await self._require_agent("agent").execute_task(
            _TASK, parameters, tenant_id=tenant_id
        )

    def _require_agent(self, mode: str) -> Agent:
        if self._agent is None:
            raise ModeNotAvailableError(mode, missing="agent")
        return self._agent
