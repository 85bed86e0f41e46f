"""Messages between agents: sent, answered and listened to, over any transport."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from motadata.core.errors import ConfigurationError, DeadlineExceededError, MessagingError
from motadata.core.messaging import _envelope as envelope
from motadata.core.messaging import _subject as subjects
from motadata.core.messaging._envelope import Envelope
from motadata.core.messaging._listening import AgentListener
from motadata.core.messaging._seconds import check_seconds
from motadata.core.observability import message_calls
from motadata.core.protocols import Handler
from motadata.core.resilience import remaining
from motadata.core.tenancy import Identifier, TenantId


if TYPE_CHECKING:
    from motadata.core.messaging._statistics import Counters
    from motadata.core.messaging._transport import Incoming, Transport


_LONGEST_REQUEST: Final = 366 * 24 * 3600.0


class AgentMessages:
    """What is delivered at most once, to who listens now."""

    def __init__(
        self, transport: Transport, used: Envelope, counters: Counters, *, drain_timeout: float
    ) -> None:
        self._transport = transport
        self._envelope = used
        self._counters = counters
        self._drain_timeout = drain_timeout
        self._publishing = message_calls("publish", destination="agent", system=transport.system)
        self._requesting = message_calls("request", destination="agent", system=transport.system)

    async def publish(
        self, recipient: str, payload: object, *, sender: str, tenant: TenantId
    ) -> None:
        """Send a message."""
        subject = subjects.agent_subject(sender, recipient, tenant)
        data = self._envelope.encode(payload)
        with self._publishing.call(tenant_id=tenant, current=False) as call:
            headers = self._envelope.headers(tenant) + envelope.trace_lines(*call.trace_headers)
            await self._transport.send(subject, data, headers)
        self._counters.published += 1

    async def request(
        self, recipient: str, payload: object, *, sender: str, timeout: float, tenant: TenantId
    ) -> object:
        """Send a message and return its answer."""
        subject = subjects.agent_subject(sender, recipient, tenant)
        data = self._envelope.encode(payload)
        if type(timeout) is not float or not 0 < timeout < _LONGEST_REQUEST:
            check_seconds(timeout=timeout)
        limit = remaining(timeout)
        assert limit is not None
        limit = min(limit, _LONGEST_REQUEST)
        with self._requesting.call(tenant_id=tenant, current=False) as call:
            headers = self._envelope.headers(tenant) + envelope.deadline_line(limit)
            headers += envelope.trace_lines(*call.trace_headers)
            self._counters.published += 1
            try:
                if limit <= 0:
                    raise TimeoutError  # noqa: TRY301 - the same as one that ran out on the way
                reply = await self._transport.request(subject, data, headers, timeout=limit)
            except TimeoutError as error:
                message = f"The agent {recipient!r} did not answer within {limit:.3g} s."
                raise DeadlineExceededError(
                    message, remedy="Allow more time, or start more instances.", tenant_id=tenant
                ) from error
            return self._read_reply(recipient, tenant, reply)

    def _read_reply(self, recipient: str, tenant: TenantId, reply: Incoming) -> object:
        if reply.headers.get(envelope.TENANT) != tenant:
            self._counters.refused += 1
            message = f"The answer of the agent {recipient!r} is not for the tenant that asked."
            raise MessagingError(
                message, remedy="Find out who answers on this subject.", retryable=False
            )
        payload = self._envelope.decode(reply.headers, reply.data)
        failure = reply.headers.get(envelope.ERROR)
        if failure is not None:
            raise envelope.reply_failure(recipient, failure, payload)
        return payload

    async def listen(
        self,
        recipient: str,
        handler: Handler,
        *,
        tenant: TenantId | None,
        shared: bool,
        max_in_flight: int,
    ) -> AgentListener:
        """Handle what is sent to an agent, of one tenant or, for None, of all."""
        if max_in_flight < 1:
            message = f"max_in_flight={max_in_flight!r} lets nothing through."
            raise ConfigurationError(message, remedy="Give a positive number.")
        agent = AgentListener(
            self._transport,
            self._envelope,
            self._counters,
            handler,
            tenant=tenant,
            max_in_flight=max_in_flight,
            drain_timeout=self._drain_timeout,
        )
        agent.listener = await self._transport.listen(
            subjects.agent_pattern(recipient, tenant),
            agent.receive,
            group=Identifier(recipient) if shared else "",
        )
        return agent
