"""Guardrails as two parts of the gateway: around the caches for inputs, within them for outputs."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final

from motadata.core.errors import ConfigurationError, GuardrailError, SDKError
from motadata.core.models import Completion, CompletionChunk, Embeddings
from motadata.core.observability import get_logger
from motadata.core.protocols import Guardrail
from motadata.gateway._call import Call, Emit, Proceed
from motadata.gateway._requests import ChatRequest, EmbeddingRequest
from motadata.gateway.guardrails._answers import GuardedAnswer
from motadata.gateway.guardrails._policy import GuardrailPolicy
from motadata.gateway.guardrails._requests import guarded_request, guarded_texts, texts_of
from motadata.gateway.guardrails._tokens import RestoredAnswer, TokenVault


PolicyFor = Callable[[str], Awaitable[GuardrailPolicy]]
"""Returns the policy of a tenant; it is asked once a call, so it keeps what it read."""

_POLICIES_KEPT: Final = 1024

_log = get_logger("gateway")


class Guardrails:
    """Judges what a gateway is asked and what it answers; nothing of it is kept.

        guardrails = Guardrails([PersonalData("tokenise")], [Secrets("mask")])
        governance = Governance(
            guardrail_inputs=guardrails.inputs, guardrail_outputs=guardrails.outputs
        )

    Use both parts together, also when one has nothing to do: the first one puts the version of the
    policy into the call, and with it into the keys of the caches.

    Args:
        inputs: Judge what is asked.
        outputs: Judge what is answered.
        policy_for: Finds the policy of a tenant, in place of `inputs` and `outputs`.
        timeout: Seconds for `policy_for`, and for guardrails that wait, for one text.

    Raises:
        ConfigurationError: Both lists and `policy_for` are given, or two guardrails have one name.
    """

    def __init__(
        self,
        inputs: Sequence[Guardrail] = (),
        outputs: Sequence[Guardrail] = (),
        *,
        policy_for: PolicyFor | None = None,
        timeout: float = 5.0,
    ) -> None:
        if policy_for is not None and (inputs or outputs):
            message = "There are guardrails for all tenants and a policy for each."
            raise ConfigurationError(message, remedy="Let `policy_for` return all of them.")
        self._policy = GuardrailPolicy(inputs=inputs, outputs=outputs, timeout=timeout)
        self._policies = _Policies(self._policy, policy_for, timeout)
        self.inputs = GuardedInputs(self._policies)
        self.outputs = GuardedOutputs(self._policies)

    @property
    def version(self) -> str:
        """Digest of the policy that is everybody's; empty when tenants have policies of their own.

        A call carries the version of its tenant's policy.
        """
        return self._policy.version


class _Policies:
    """Finds the policy of a call, the same one for its input and its answer."""

    def __init__(
        self, everybodys: GuardrailPolicy, policy_for: PolicyFor | None, timeout: float
    ) -> None:
        self.everybodys = everybodys
        self._policy_for = policy_for
        self._timeout = timeout
        self._by_version: OrderedDict[tuple[str, str], GuardrailPolicy] = OrderedDict()

    @property
    def common(self) -> GuardrailPolicy | None:
        """The policy that all tenants have; None when each has its own."""
        return self.everybodys if self._policy_for is None else None

    async def of(self, tenant: str) -> GuardrailPolicy:
        """Return the policy of a tenant.

        Raises:
            GuardrailError: It cannot be found; no call goes on without one.
        """
        if self._policy_for is None:
            return self.everybodys
        try:
            async with asyncio.timeout(self._timeout):
                policy = await self._policy_for(tenant)
        except SDKError:
            raise
        except Exception as error:
            # The resolver is the platform's own code and may raise anything.
            _log.warning("guardrail_policy_failed", error_type=type(error).__name__)
            message = "The guardrail policy of the tenant could not be found."
            raise GuardrailError(
                message, rule="policy", remedy="Repair `policy_for`.", tenant_id=tenant
            ) from error
        self._by_version[tenant, policy.version] = policy
        self._by_version.move_to_end((tenant, policy.version))
        if len(self._by_version) > _POLICIES_KEPT:
            self._by_version.popitem(last=False)
        return policy

    async def again(self, tenant: str, version: str) -> GuardrailPolicy:
        """Return the policy under which a call began, although it may have changed since."""
        if self._policy_for is None:
            return self.everybodys
        return self._by_version.get((tenant, version)) or await self.of(tenant)


class GuardedInputs:
    """The part that judges what is asked, and gives originals back in the answer."""

    def __init__(self, policies: _Policies) -> None:
        self._policies = policies

    @property
    def version(self) -> str:
        """Version of everybody's policy; see `Guardrails.version`."""
        return self._policies.everybodys.version

    async def chat(
        self, call: Call[ChatRequest], proceed: Proceed[ChatRequest, Completion]
    ) -> Completion:
        """Pass a conversation on as its tenant's policy lets it.

        Raises:
            GuardrailError: A rule refuses it.
        """
        policy = self._policies.common or await self._policies.of(str(call.tenant_id))
        passed = call.copied()
        passed.policy = policy.version
        if not policy.input_chain:
            return await proceed(passed)
        request = call.request
        vault = TokenVault(lambda: texts_of(request))
        # The same object when nothing is changed, which keeps the digest made of it.
        passed.request = await guarded_request(call, policy.input_chain, vault.replaced)
        if not vault:
            return await proceed(passed)
        passed.emit = None if call.emit is None else _restoring(call.emit, vault)
        return _restored(await proceed(passed), vault)

    async def embedding(
        self, call: Call[EmbeddingRequest], proceed: Proceed[EmbeddingRequest, Embeddings]
    ) -> Embeddings:
        """Pass texts to embed on as the policy lets them; what it tokenises is masked.

        Raises:
            GuardrailError: A rule refuses one of them.
        """
        policy = await self._policies.of(str(call.tenant_id))
        if not policy.input_chain:
            return await proceed(call)
        texts = await guarded_texts(call, policy.input_chain)
        request = replace(call.request, texts=texts)
        return await proceed(replace(call, request=request, policy=policy.version))


class GuardedOutputs:
    """The part that judges what is answered, before it is kept or said to anybody."""

    def __init__(self, policies: _Policies) -> None:
        self._policies = policies

    @property
    def version(self) -> str:
        """Version of everybody's policy; see `Guardrails.version`."""
        return self._policies.everybodys.version

    async def chat(
        self, call: Call[ChatRequest], proceed: Proceed[ChatRequest, Completion]
    ) -> Completion:
        """Pass an answer on as the policy lets it.

        Raises:
            GuardrailError: A rule refuses it; of a streamed one, none of what it refuses was said.
        """
        policy = self._policies.common
        if policy is None:
            policy = await self._policies.again(str(call.tenant_id), call.policy)
        if not policy.output_chain:
            return await proceed(call)
        guarded = GuardedAnswer(call, policy)
        if call.emit is None:
            return await guarded.whole(await proceed(call))
        passed = call.copied()
        passed.emit = guarded.emit
        return await guarded.ended(await proceed(passed))

    async def embedding(
        self, call: Call[EmbeddingRequest], proceed: Proceed[EmbeddingRequest, Embeddings]
    ) -> Embeddings:
        """Pass vectors on as they are."""
        return await proceed(call)


def _restoring(emit: Emit, vault: TokenVault) -> Emit:
    restored = RestoredAnswer(vault)

    async def passed(chunk: CompletionChunk) -> None:
        text = restored.take(chunk.text)
        if chunk.finish_reason is None:
            if text:
                await emit(replace(chunk, text=text))
            return
        calls = tuple(
            replace(tool, arguments=vault.restored_json(tool.arguments))
            for tool in chunk.tool_calls
        )
        await emit(replace(chunk, text=text + restored.finish(), tool_calls=calls))

    return passed


def _restored(answer: Completion, vault: TokenVault) -> Completion:
    calls = tuple(
        replace(tool, arguments=vault.restored_json(tool.arguments)) for tool in answer.tool_calls
    )
    return replace(answer, text=vault.restored(answer.text), tool_calls=calls)
