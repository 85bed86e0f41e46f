"""The kit for agents passes an honest one, and finds the mistakes of others."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, MutableMapping
from typing import Protocol, cast

import pytest

from motadata.core.errors import AgentExecutionError
from motadata.core.identifiers import new_id_text
from motadata.core.models import Health, TaskResult
from motadata.core.protocols import Agent
from motadata.core.resilience import context_without_deadline, time_limit
from motadata.core.tenancy import TenantId, resolve_tenant
from motadata.core.testing.agent import AgentConformance, AgentTask, WriteTask
from motadata.core.testing.gate import Gate


class Complaint(Protocol):
    async def __call__(self, kit: object, test: str, **fixtures: object) -> str: ...


class RepeatingAgent:
    """Repeats what it is told, and what it was told before by the same tenant."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._told: defaultdict[str, list[str]] = defaultdict(list)

    async def execute_task(
        self,
        task_type: str,
        parameters: Mapping[str, object],
        *,
        timeout: float | None = None,
        tenant_id: str | None = None,
    ) -> TaskResult:
        tenant = self.tenant_of(tenant_id)
        self.check_timeout(timeout)
        text = self.text_of(task_type, parameters)
        try:
            output = await self.limited_work(tenant, text, timeout)
        except TimeoutError as error:
            message = f"The task {task_type!r} took longer than {timeout!r} seconds."
            raise AgentExecutionError(message, tenant_id=tenant) from error
        return TaskResult(new_id_text(), task_type, output)

    async def health(self) -> Health:
        return Health("ok")

    def tenant_of(self, tenant_id: str | None) -> str:
        return resolve_tenant(tenant_id)

    def check_timeout(self, timeout: float | None) -> None:
        if timeout is not None and not timeout > 0:
            message = f"timeout={timeout!r} is not positive."
            raise AgentExecutionError(message)

    def text_of(self, task_type: str, parameters: Mapping[str, object]) -> str:
        text = parameters.get("text")
        if task_type != "repeat" or not isinstance(text, str):
            message = f"{task_type!r} is no task of this agent, or has no text to repeat."
            raise AgentExecutionError(message)
        return text

    async def limited_work(self, tenant: str, text: str, timeout: float | None) -> str:
        async with time_limit(None, what="the model"), asyncio.timeout(timeout):
            return await self.work(tenant, text)

    async def work(self, tenant: str, text: str) -> str:
        await self._gate.passage()
        await asyncio.sleep(0)
        self._told[tenant].append(text)
        return " ".join(self._told[tenant])


class RememberingForEverybody(RepeatingAgent):
    async def work(self, tenant: str, text: str) -> str:
        return await super().work("everybody", text)


class WithOneTaskAtATime(RepeatingAgent):
    async def work(self, tenant: str, text: str) -> str:
        self._text = text
        await super().work(tenant, text)
        return self._text


class WithoutNeedOfATenant(RepeatingAgent):
    def tenant_of(self, tenant_id: str | None) -> str:
        return super().tenant_of(tenant_id or "default")


class LateInAskingForTheTenant(RepeatingAgent):
    def tenant_of(self, tenant_id: str | None) -> str:
        return tenant_id or ""

    async def work(self, tenant: str, text: str) -> str:
        await self._gate.passage()
        return await super().work(resolve_tenant(tenant or None), text)


class TakingAnyTenant(RepeatingAgent):
    def tenant_of(self, tenant_id: str | None) -> str:
        return tenant_id if tenant_id is not None else resolve_tenant(None)


class TakingTheScopeForAnEmptyTenant(RepeatingAgent):
    def tenant_of(self, tenant_id: str | None) -> TenantId:
        return resolve_tenant(tenant_id or None)


class SilentOnWhatItDoesNotKnow(RepeatingAgent):
    def text_of(self, task_type: str, parameters: Mapping[str, object]) -> str:
        return str(parameters.get("text", ""))


class FailingInItsOwnWay(RepeatingAgent):
    def text_of(self, task_type: str, parameters: Mapping[str, object]) -> str:
        return str({"repeat": parameters["text"]}[task_type])


class Indiscreet(RepeatingAgent):
    def text_of(self, task_type: str, parameters: Mapping[str, object]) -> str:
        try:
            return super().text_of(task_type, parameters)
        except AgentExecutionError as error:
            message = f"{parameters!r} do not fit."
            raise AgentExecutionError(message) from error


class LearningFromWhatFailed(RepeatingAgent):
    def text_of(self, task_type: str, parameters: Mapping[str, object]) -> str:
        self._told["acme"] += map(str, parameters.values())
        return super().text_of(task_type, parameters)


class TidyingItsParameters(RepeatingAgent):
    def text_of(self, task_type: str, parameters: Mapping[str, object]) -> str:
        text = super().text_of(task_type, parameters)
        cast("MutableMapping[str, object]", parameters).clear()
        return text


class WorkingOnWhenCancelled(RepeatingAgent):
    async def work(self, tenant: str, text: str) -> str:
        return await asyncio.shield(asyncio.ensure_future(super().work(tenant, text)))


class AnsweringWhenCancelled(RepeatingAgent):
    async def work(self, tenant: str, text: str) -> str:
        try:
            return await super().work(tenant, text)
        except asyncio.CancelledError:
            return "Stopped."


class DeafToDeadlines(RepeatingAgent):
    async def limited_work(self, tenant: str, text: str, timeout: float | None) -> str:
        async with asyncio.timeout(timeout):
            return await asyncio.create_task(
                self.work(tenant, text), context=context_without_deadline()
            )


class DeafToTimeouts(RepeatingAgent):
    async def limited_work(self, tenant: str, text: str, timeout: float | None) -> str:
        return await super().limited_work(tenant, text, None)


class RaisingTimeouts(RepeatingAgent):
    async def limited_work(self, tenant: str, text: str, timeout: float | None) -> str:
        async with time_limit(timeout, what="the model"):
            return await self.work(tenant, text)


class TakingAnyTimeout(RepeatingAgent):
    def check_timeout(self, timeout: float | None) -> None: ...

    async def limited_work(self, tenant: str, text: str, timeout: float | None) -> str:
        return await self.work(tenant, text)


class RepeatingTasks(AgentConformance):
    @pytest.fixture
    def telling_task(self) -> WriteTask:
        return lambda text: AgentTask("repeat", {"text": text})

    @pytest.fixture
    def unfit_task(self) -> WriteTask:
        return lambda text: AgentTask("repeat", {"no such parameter": text})

    @pytest.fixture
    def unknown_task(self) -> AgentTask:
        return AgentTask("juggle", {"text": "Bluebird"})


class TestRepeatingAgent(RepeatingTasks):
    @pytest.fixture
    def agent(self, gate: Gate) -> Agent:
        return RepeatingAgent(gate)


class Hasty(AgentConformance):
    """Loses its patience early, for implementations that hang."""

    patience = 0.3


@pytest.mark.parametrize(
    ("mistaken", "test"),
    [
        (RememberingForEverybody, "test_tenant_hears_nothing_of_what_another_one_said"),
        (RememberingForEverybody, "test_tasks_of_many_tenants_at_once_do_not_mix"),
        (WithOneTaskAtATime, "test_tasks_of_many_tenants_at_once_do_not_mix"),
        (WithoutNeedOfATenant, "test_no_task_begins_without_a_tenant"),
        (LateInAskingForTheTenant, "test_no_task_begins_without_a_tenant"),
        (TakingAnyTenant, "test_malformed_tenant_is_refused"),
        (TakingTheScopeForAnEmptyTenant, "test_malformed_tenant_is_refused"),
        (SilentOnWhatItDoesNotKnow, "test_task_of_an_unknown_type_fails_as_a_task"),
        (SilentOnWhatItDoesNotKnow, "test_parameters_that_do_not_fit_are_refused_and_not_repeated"),
        (FailingInItsOwnWay, "test_task_of_an_unknown_type_fails_as_a_task"),
        (FailingInItsOwnWay, "test_parameters_that_do_not_fit_are_refused_and_not_repeated"),
        (Indiscreet, "test_parameters_that_do_not_fit_are_refused_and_not_repeated"),
        (LearningFromWhatFailed, "test_failed_task_leaves_nothing_that_the_next_one_shows"),
        (TidyingItsParameters, "test_parameters_stay_as_they_were_given"),
        (WorkingOnWhenCancelled, "test_cancelled_task_ends_with_all_its_work"),
        (AnsweringWhenCancelled, "test_cancelled_task_ends_with_all_its_work"),
        (AnsweringWhenCancelled, "test_agent_goes_on_after_a_cancelled_task"),
        (DeafToDeadlines, "test_task_ends_with_the_deadline_of_its_caller"),
        (DeafToTimeouts, "test_task_that_takes_longer_than_its_timeout_has_failed"),
        (RaisingTimeouts, "test_task_that_takes_longer_than_its_timeout_has_failed"),
        (TakingAnyTimeout, "test_timeout_that_is_none_is_refused"),
    ],
)
async def test_kit_finds(mistaken: type[RepeatingAgent], test: str, complaint: Complaint):
    fixtures = {
        "telling_task": lambda text: AgentTask("repeat", {"text": text}),
        "unfit_task": lambda text: AgentTask("repeat", {"no such parameter": text}),
        "unknown_task": AgentTask("juggle", {"text": "Bluebird"}),
        "tenant": "acme",
        "name": "",
        "timeout": 0.0,
    }
    honest = Gate()
    agent = RepeatingAgent(honest)
    assert not await complaint(AgentConformance(), test, agent=agent, gate=honest, **fixtures)

    gate = Gate()
    assert await complaint(Hasty(), test, agent=mistaken(gate), gate=gate, **fixtures)
    gate.open()
