"""A message bus, and what each tenant's handlers may hear on it."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter, defaultdict
from contextlib import AsyncExitStack
from functools import partial
from typing import Final, Self

from motadata.core.protocols import BusMessage, ConsumerOptions, MessageBus, PublishedMessage
from motadata.core.tenancy import current_tenant
from motadata.core.testing.isolation._operations import TENANTS, Operation, choose
from motadata.core.testing.isolation._site import (
    UNKNOWN,
    Leak,
    Serials,
    Unknown,
    attempt,
    intrude,
    within,
)


NAMES: Final = ("a", "b", "ab", "A")
EVENT_TYPES: Final = ("a", "a.b", "b.a", "generation")
_EVERYONE: Final = "everyone"
_ARRIVAL: Final = 30.0
_OPTIONS: Final = ConsumerOptions(max_deliveries=1, handler_timeout=30.0)

Payload = dict[str, object]


class BusSite:
    """Messages, requests, events and work under names that look like each other's subjects.

    Args:
        bus: The bus.
        name: How reports call it.
        forgetful: Whether stored messages may arrive after the run, as when the server fails
            meanwhile.
        weight: How often it is acted on.
    """

    def __init__(
        self, bus: MessageBus, *, name: str = "bus", forgetful: bool = False, weight: int = 1
    ) -> None:
        self.name = name
        self.weight = weight
        self.unknown = 0
        self._bus = bus
        self._forgetful = forgetful
        self._serials = Serials()
        self._leak: str | None = None
        self._stored: defaultdict[str, set[int]] = defaultdict(set)
        self._heard: defaultdict[str, set[int]] = defaultdict(set)
        self._run = secrets.token_hex(4)
        self._sent: Counter[str] = Counter()
        self._arrived = asyncio.Event()
        self._stack = AsyncExitStack()
        self._verbs = (
            self._publish, self._publish, self._request, self._request, self._request,
            self._event, self._event, self._work, self._read_dead_letters, self._intrude,
        )  # fmt: skip

    async def __aenter__(self) -> Self:
        """Subscribe every tenant to every name, and the operator to all events."""
        async with AsyncExitStack() as stack:
            for tenant in TENANTS:
                hear = partial(self._hear, tenant)
                for name in NAMES:
                    heard = await self._bus.subscribe(name, hear, tenant_id=tenant)
                    stack.push_async_callback(heard.stop)
                started = await asyncio.gather(
                    self._bus.consume(
                        NAMES[0], hear, event_types=EVENT_TYPES, options=_OPTIONS, tenant_id=tenant
                    ),
                    self._bus.work(NAMES[0], hear, options=_OPTIONS, tenant_id=tenant),
                )
                for subscription in started:
                    stack.push_async_callback(subscription.stop)
            everyone = await self._bus.consume_all_tenants(
                NAMES[0], partial(self._hear, _EVERYONE), event_types=EVENT_TYPES, options=_OPTIONS
            )
            stack.push_async_callback(everyone.stop)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *details: object) -> None:
        """Stop listening."""
        await self._stack.aclose()

    async def act(self, tenant: str, operation: Operation) -> None:
        """Send something for a tenant.

        Raises:
            Leak: A handler heard another tenant's message, or an answer was another's.
        """
        await choose(self._verbs, operation.verb)(tenant, operation)
        self._raise()

    async def settle(self) -> None:
        """Wait until every stored message was heard by its own tenant.

        Raises:
            Leak: One was not, or another heard it.
        """
        try:
            async with asyncio.timeout(0 if self._forgetful else _ARRIVAL):
                while self._missing() and self._leak is None:
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            if not self._forgetful:
                message = f"{self.name}: stored messages were not heard: {self._missing()}."
                raise Leak(message) from None
        self._raise()

    async def reset(self) -> None:
        """Forget what was seen; what is under way is still known by its number."""
        self._leak = None
        self._stored.clear()
        self._heard.clear()

    async def _hear(self, tenant: str, message: BusMessage) -> object:
        payload = message.payload
        serial = payload.get("serial") if isinstance(payload, dict) else None
        owner = self._serials.owner(serial)
        expected = owner if tenant == _EVERYONE else tenant
        said = payload.get("owner") if isinstance(payload, dict) else None
        if {owner, said, message.tenant_id, current_tenant()} != {expected}:
            self._leak = (
                f"{self.name}: {tenant!r} heard a message of {owner!r} to {message.tenant_id!r}"
                f" in the scope {current_tenant()!r}."
            )
        elif tenant != _EVERYONE and isinstance(serial, int):
            self._heard[tenant].add(serial)
        self._arrived.set()
        if isinstance(payload, dict) and payload.get("fails"):
            message_text = "A handler that fails on purpose."
            raise RuntimeError(message_text)
        return payload

    async def _publish(self, tenant: str, operation: Operation) -> None:
        payload = self._payload(tenant)

        async def call(tenant_id: str | None) -> None:
            await self._bus.publish(
                choose(NAMES, operation.key),
                payload,
                sender=choose(NAMES, operation.space),
                tenant_id=tenant_id,
            )

        self._count(await attempt(partial(within, tenant, operation, call), operation))

    async def _request(self, tenant: str, operation: Operation) -> None:
        payload = self._payload(tenant)

        async def call(tenant_id: str | None) -> object:
            return await self._bus.request(
                choose(NAMES, operation.key),
                payload,
                sender=choose(NAMES, operation.space),
                tenant_id=tenant_id,
            )

        answer = await attempt(partial(within, tenant, operation, call), operation)
        self._count(answer)
        if answer is not UNKNOWN and answer != payload:
            message = f"{self.name}: {tenant!r} asked {payload!r} and was answered {answer!r}."
            raise Leak(message)

    async def _event(self, tenant: str, operation: Operation) -> None:
        payload = self._payload(tenant, fails=operation.other % 10 == 0)
        # All tenants use the same message ids: one must not swallow another's.
        self._sent[tenant] += 1
        call = partial(
            self._bus.publish_event,
            choose(EVENT_TYPES, operation.space),
            payload,
            message_id=f"{self._run}-{self._sent[tenant]}" if operation.key % 2 else None,
            tenant_id=tenant,
        )
        self._keep(tenant, payload, await attempt(call, operation))

    async def _work(self, tenant: str, operation: Operation) -> None:
        payload = self._payload(tenant)
        call = partial(self._bus.submit_work, NAMES[0], payload, tenant_id=tenant)
        self._keep(tenant, payload, await attempt(call, operation))

    async def _read_dead_letters(self, tenant: str, operation: Operation) -> None:
        call = partial(self._bus.dead_letters, NAMES[0], limit=5, tenant_id=tenant)
        letters = await attempt(call, operation)
        self._count(letters)
        for letter in () if isinstance(letters, Unknown) else letters:
            payload = letter.message.payload
            owner = payload.get("owner") if isinstance(payload, dict) else None
            if {owner, letter.message.tenant_id} != {tenant}:
                message = f"{self.name}: {tenant!r} read a dead letter of {owner!r}."
                raise Leak(message)

    async def _intrude(self, tenant: str, operation: Operation) -> None:
        del tenant
        verb = operation.verb % 3

        async def call(tenant_id: str | None) -> object:
            payload = self._payload(str(tenant_id))
            if verb == 0:
                return await self._bus.publish_event("a", payload, tenant_id=tenant_id)
            if verb == 1:
                return await self._bus.dead_letters("a", tenant_id=tenant_id)
            heard = await self._bus.subscribe("a", self._overhear, tenant_id=tenant_id)
            await heard.stop()
            return heard

        await intrude(call, operation)

    async def _overhear(self, message: BusMessage) -> object:
        self._leak = f"{self.name}: an intruder heard a message of {message.tenant_id!r}."
        return None

    def _missing(self) -> dict[str, int]:
        """Return how many stored messages each tenant has not heard."""
        missing = {name: len(kept - self._heard[name]) for name, kept in self._stored.items()}
        return {name: count for name, count in missing.items() if count}

    def _payload(self, tenant: str, *, fails: bool = False) -> Payload:
        return {"owner": tenant, "serial": self._serials.next(tenant), "fails": fails}

    def _keep(self, tenant: str, payload: Payload, answer: object) -> None:
        self._count(answer)
        serial = payload["serial"]
        if isinstance(answer, PublishedMessage) and isinstance(serial, int):
            # A bus whose acknowledgement was lost on the way stores again, and says so.
            if answer.duplicate and not self._forgetful:
                message = f"{self.name}: a message of {tenant!r} was taken for another's."
                raise Leak(message)
            self._stored[tenant].add(serial)

    def _count(self, answer: object) -> None:
        self.unknown += answer is UNKNOWN

    def _raise(self) -> None:
        if self._leak is not None:
            message, self._leak = self._leak, None
            raise Leak(message)
