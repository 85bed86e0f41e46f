"""The contract of an agent as tests: subclass and give four fixtures.

    class TestMine(AgentConformance):
        @pytest.fixture
        def agent(self, gate: Gate) -> Agent:
            return Mine(ModelThatWaitsAt(gate))

        @pytest.fixture
        def telling_task(self) -> WriteTask:
            return lambda text: AgentTask("repeat", {"text": text})

        @pytest.fixture
        def unfit_task(self) -> WriteTask:
            return lambda text: AgentTask("repeat", {"no such parameter": text})

        @pytest.fixture
        def unknown_task(self) -> AgentTask:
            return AgentTask("juggle", {})

The model, or whatever else the agent works with in the tests, awaits `gate.passage()` before it
answers. The tests use tenants of their own, of whom nothing is known.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import ClassVar
from uuid import uuid4

import pytest

from motadata.core.errors import AgentExecutionError, InvalidIdentifierError, TenantRequiredError
from motadata.core.models import TaskResult
from motadata.core.protocols import Agent
from motadata.core.tenancy import tenant_scope
from motadata.core.testing.gate import SHORT, Gate, cancel_at, outlast_deadline_at


@dataclass(frozen=True, slots=True)
class AgentTask:
    """A task as it is given to `execute_task`."""

    task_type: str
    parameters: Mapping[str, object]


WriteTask = Callable[[str], AgentTask]
"""Makes a task of which a text is a part."""


class AgentConformance:
    """What every implementation of `motadata.core.protocols.Agent` must do.

    Attributes:
        patience: Seconds after which what should have ended is taken to hang.
    """

    patience: ClassVar[float] = 30.0

    @pytest.fixture
    def agent(self) -> Agent:
        """Supply the implementation, entered."""
        message = "A subclass supplies the fixture `agent`."
        raise NotImplementedError(message)

    @pytest.fixture
    def telling_task(self) -> WriteTask:
        """Supply a task that succeeds, and whose output holds the text."""
        message = "A subclass supplies the fixture `telling_task`."
        raise NotImplementedError(message)

    @pytest.fixture
    def unfit_task(self) -> WriteTask:
        """Supply a task whose parameters hold the text and do not fit its type."""
        message = "A subclass supplies the fixture `unfit_task`."
        raise NotImplementedError(message)

    @pytest.fixture
    def unknown_task(self) -> AgentTask:
        """Supply a task of a type that the agent does not know."""
        message = "A subclass supplies the fixture `unknown_task`."
        raise NotImplementedError(message)

    @pytest.fixture
    def gate(self) -> Iterator[Gate]:
        """Give the gate at which the agent's work waits when it is closed."""
        gate = Gate()
        yield gate
        gate.open()

    @pytest.fixture
    def tenant(self) -> str:
        """Return a tenant of whom nothing is known."""
        return f"kit-{uuid4().hex}"

    async def test_result_says_what_was_asked_and_what_came_of_it(
        self, agent: Agent, telling_task: WriteTask, tenant: str
    ) -> None:
        task = telling_task("Bluebird")

        result = await _executed(agent, task, tenant)

        assert isinstance(result, TaskResult)
        assert result.task_id
        assert result.task_type == task.task_type
        assert "Bluebird" in result.output

    async def test_parameters_stay_as_they_were_given(
        self, agent: Agent, telling_task: WriteTask, tenant: str
    ) -> None:
        task = telling_task("Bluebird")
        before = deepcopy(dict(task.parameters))

        await _executed(agent, task, tenant)

        assert dict(task.parameters) == before

    async def test_task_of_an_unknown_type_fails_as_a_task(
        self, agent: Agent, unknown_task: AgentTask, tenant: str
    ) -> None:
        with pytest.raises(AgentExecutionError):
            await _executed(agent, unknown_task, tenant)

    async def test_parameters_that_do_not_fit_are_refused_and_not_repeated(
        self, agent: Agent, unfit_task: WriteTask, tenant: str
    ) -> None:
        with pytest.raises(AgentExecutionError) as caught:
            await _executed(agent, unfit_task("Bluebird"), tenant)

        assert "Bluebird" not in str(caught.value)

    async def test_failed_task_leaves_nothing_that_the_next_one_shows(
        self, agent: Agent, telling_task: WriteTask, unfit_task: WriteTask, tenant: str
    ) -> None:
        with pytest.raises(AgentExecutionError):
            await _executed(agent, unfit_task("Bluebird"), tenant)

        result = await _executed(agent, telling_task("Kingfisher"), tenant)

        assert "Kingfisher" in result.output
        assert "Bluebird" not in result.output

    async def test_tenant_hears_nothing_of_what_another_one_said(
        self, agent: Agent, telling_task: WriteTask, tenant: str
    ) -> None:
        other = f"kit-{uuid4().hex}"
        await _executed(agent, telling_task("Bluebird"), tenant)

        result = await _executed(agent, telling_task("Kingfisher"), other)

        assert "Bluebird" not in result.output

    async def test_tasks_of_many_tenants_at_once_do_not_mix(
        self, agent: Agent, telling_task: WriteTask
    ) -> None:
        names = [f"bird{number:02}" for number in range(20)]

        results = await asyncio.gather(
            *(_executed(agent, telling_task(name), f"kit-{uuid4().hex}") for name in names)
        )

        heard = [[name for name in names if name in result.output] for result in results]
        assert heard == [[name] for name in names]

    async def test_no_task_begins_without_a_tenant(
        self, agent: Agent, telling_task: WriteTask, gate: Gate
    ) -> None:
        task = telling_task("Bluebird")
        gate.close()

        with pytest.raises(TenantRequiredError):
            async with asyncio.timeout(self.patience):
                await agent.execute_task(task.task_type, task.parameters)

        assert not gate.reached.is_set()

    @pytest.mark.parametrize("name", ["", "a:b", "*", "x" * 65])
    async def test_malformed_tenant_is_refused(
        self, agent: Agent, telling_task: WriteTask, tenant: str, name: str
    ) -> None:
        with tenant_scope(tenant), pytest.raises(InvalidIdentifierError):
            await _executed(agent, telling_task("Bluebird"), name)

    async def test_tenant_of_the_scope_is_taken(
        self, agent: Agent, telling_task: WriteTask, tenant: str
    ) -> None:
        task = telling_task("Bluebird")

        with tenant_scope(tenant):
            result = await agent.execute_task(task.task_type, task.parameters)

        assert "Bluebird" in result.output

    async def test_cancelled_task_ends_with_all_its_work(
        self, agent: Agent, telling_task: WriteTask, tenant: str, gate: Gate
    ) -> None:
        gate.close()
        task = asyncio.ensure_future(_executed(agent, telling_task("Bluebird"), tenant))
        async with asyncio.timeout(self.patience):
            await gate.reached.wait()
        task.cancel()
        await asyncio.wait({task}, timeout=self.patience)

        assert task.cancelled()
        assert gate.left.is_set()

    async def test_agent_goes_on_after_a_cancelled_task(
        self, agent: Agent, telling_task: WriteTask, tenant: str, gate: Gate
    ) -> None:
        task = telling_task("Bluebird")
        await cancel_at(gate, lambda: _executed(agent, task, tenant), patience=self.patience)

        result = await _executed(agent, telling_task("Kingfisher"), tenant)

        assert "Kingfisher" in result.output

    async def test_task_ends_with_the_deadline_of_its_caller(
        self, agent: Agent, telling_task: WriteTask, tenant: str, gate: Gate
    ) -> None:
        task = telling_task("Bluebird")

        await outlast_deadline_at(
            gate, lambda: _executed(agent, task, tenant), patience=self.patience
        )

        assert "Kingfisher" in (await _executed(agent, telling_task("Kingfisher"), tenant)).output

    async def test_task_that_takes_longer_than_its_timeout_has_failed(
        self, agent: Agent, telling_task: WriteTask, tenant: str, gate: Gate
    ) -> None:
        task = telling_task("Bluebird")
        gate.close()

        with pytest.raises(AgentExecutionError):
            async with asyncio.timeout(self.patience):
                await agent.execute_task(
                    task.task_type, task.parameters, timeout=SHORT, tenant_id=tenant
                )

    @pytest.mark.parametrize("timeout", [0.0, -1.0, math.nan])
    async def test_timeout_that_is_none_is_refused(
        self, agent: Agent, telling_task: WriteTask, tenant: str, timeout: float
    ) -> None:
        task = telling_task("Bluebird")

        with pytest.raises(AgentExecutionError):
            await agent.execute_task(
                task.task_type, task.parameters, timeout=timeout, tenant_id=tenant
            )

    async def test_health_says_that_it_takes_tasks(self, agent: Agent) -> None:
        assert (await agent.health()).status in {"ok", "degraded"}


async def _executed(agent: Agent, task: AgentTask, tenant: str) -> TaskResult:
    return await agent.execute_task(task.task_type, task.parameters, tenant_id=tenant)
