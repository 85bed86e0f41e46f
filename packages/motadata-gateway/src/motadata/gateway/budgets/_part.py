"""The part of the gateway that keeps tenants within their budgets."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Literal, Self

from motadata.core.clock import SYSTEM_CLOCK, Clock
from motadata.core.errors import BudgetExceededError, ConfigurationError, DatabaseError
from motadata.core.models import Completion, Embeddings, Usage
from motadata.core.protocols import Database
from motadata.core.resilience import remaining
from motadata.core.tenancy import TenantId, resolve_tenant
from motadata.gateway._call import Call, Proceed, Request, Result
from motadata.gateway._charges import may_be_charged
from motadata.gateway._estimates import USUAL, Estimator
from motadata.gateway._requests import ChatRequest, EmbeddingRequest
from motadata.gateway.budgets._costs import cost_of, expected_cost
from motadata.gateway.budgets._ledger import Ledger
from motadata.gateway.budgets._policy import Amount, Budget, BudgetState
from motadata.gateway.budgets._share import Share
from motadata.gateway.budgets._shares import BudgetsOf, Shares, Told


_WAITED: Final = 0.001
"""Seconds; a shorter wait leaves a call's time limit as it is."""


def _now() -> datetime:
    return datetime.now(UTC)


class Budgets:
    """Lets calls pass that a tenant's budgets cover, however many come at once, on all instances.

        Budgets(database, [Budget(name="monthly", usd=Decimal(100), soft_usd=Decimal(80))])

    What a call may cost is reserved before it is sent, and settled afterwards. PostgreSQL holds the
    record; each instance holds a share of what is left, so that few calls ask the database. An
    instance that dies frees what it held when its lease ends; what it spent since its last report
    is then not counted.

    A call without `max_tokens` reserves what the estimator takes for an answer. One that turns out
    dearer than its estimate is paid all the same, so set `max_tokens` where a limit must be exact.
    Calls may be refused shortly before the limit while others under way hold what is left.

    Args:
        database: Where the gateway's migrations have run.
        budgets: Those that every tenant has, or a function that says which a tenant has. It is
            called for each call and must return at once: a plain function, not an `async` one. No
            two of a tenant's budgets have the same name.
        on_soft_limit: Told once a period, by the instance that notices first. An `async` function,
            which has 30 seconds; a plain one is called as well, on the event loop, and must return
            at once. What it raises is logged.
        without_database: Whether calls are refused while the database is away, or allowed and
            counted later.
        report_every: Seconds between two reports of what was spent.
        lease: Seconds for which a share stays held when its instance is gone.
        timeout: Seconds that a question to the database may take. A call waits for it no longer
            than its own time limit; after a failure none waits for a second.
        estimator: Estimates what calls will use.
        clock: Measures leases.
        now: Says which period it is; returns an aware datetime.

    Raises:
        ConfigurationError: A number is not positive, the lease does not outlast two reports, two
            budgets have one name, or something that is given is not of its kind.
    """

    def __init__(
        self,
        database: Database,
        budgets: Sequence[Budget] | BudgetsOf,
        *,
        on_soft_limit: Told | None = None,
        without_database: Literal["refuse", "allow"] = "refuse",
        report_every: float = 2.0,
        lease: float = 60.0,
        timeout: float = 5.0,
        estimator: Estimator | None = None,
        clock: Clock = SYSTEM_CLOCK,
        now: Callable[[], datetime] = _now,
    ) -> None:
        numbers = (report_every, timeout, lease)
        if not all(_is_time(number) for number in numbers) or lease <= 2 * report_every:
            message = f"report_every={report_every!r}, lease={lease!r}, timeout={timeout!r}."
            raise ConfigurationError(message, remedy="Let a lease outlast two reports.")
        if without_database not in ("refuse", "allow"):
            message = f"without_database={without_database!r} is none."
            raise ConfigurationError(message, remedy="Use 'refuse' or 'allow'.")
        tell: object = on_soft_limit
        if tell is not None and not callable(tell):
            message = f"on_soft_limit={tell!r} is no function."
            raise ConfigurationError(message, remedy="Pass an async one, or leave it out.")
        budgets_of = _budgets_of(budgets)
        self._estimator = estimator or USUAL
        self._goes_on_alone = without_database == "allow"
        self._shares = Shares(
            budgets_of,
            Ledger(database, lease, timeout),
            on_soft_limit=on_soft_limit,
            goes_on_alone=self._goes_on_alone,
            report_every=report_every,
            clock=clock,
            now=now,
        )

    async def chat(
        self, call: Call[ChatRequest], proceed: Proceed[ChatRequest, Completion]
    ) -> Completion:
        """Pass a conversation on if it is covered, to a cheaper model beyond a soft limit.

        Raises:
            BudgetExceededError: It is not covered; says by which budget, and when that resets.
            ConfigurationError: A budget of money does not know what the model costs.
            DatabaseError: The record of budgets is away, or slower than the call may be, or only
                the tenant's own prices may say what the model costs, and they cannot be read.
        """
        tenant = resolve_tenant(call.tenant_id)
        shares = self._shares.of(tenant)
        if not shares:
            return await proceed(call)
        expected = self._estimator.of(call)
        amount = self._amount(call, expected, shares)
        call = await self._reserved(call, shares, amount, tenant)
        asked = call.request.model
        cheaper = _cheaper(shares)
        if cheaper is not None and cheaper != asked:
            call = replace(
                call,
                request=replace(call.request, model=cheaper),
                provider=call.routes.provider(cheaper),
            )
        before = call.notes.attempts
        answer = await self._settled(call, proceed, shares, amount)
        usage = self._estimator.used(answer, call.notes.spent, expected)
        self._settle(shares, amount, self._actual(call, usage, amount, before))
        if call.request.model == asked:
            return answer
        call.notes.fallback_from = asked
        return replace(answer, fallback_from=asked)

    async def embedding(
        self, call: Call[EmbeddingRequest], proceed: Proceed[EmbeddingRequest, Embeddings]
    ) -> Embeddings:
        """Pass texts on if they are covered.

        Raises:
            BudgetExceededError: They are not; says by which budget, and when that resets.
            ConfigurationError: A budget of money does not know what the model costs.
            DatabaseError: The record of budgets is away, or slower than the call may be, or only
                the tenant's own prices may say what the model costs, and they cannot be read.
        """
        tenant = resolve_tenant(call.tenant_id)
        shares = self._shares.of(tenant)
        if not shares:
            return await proceed(call)
        expected = self._estimator.embedding(call.request)
        amount = self._amount(call, expected, shares)
        call = await self._reserved(call, shares, amount, tenant)
        result = await self._settled(call, proceed, shares, amount)
        usage = self._estimator.used(result, None, expected)
        self._settle(shares, amount, self._actual(call, usage, amount, call.notes.attempts))
        return result

    async def state(self, *, tenant_id: str | None = None) -> tuple[BudgetState, ...]:
        """Return how the tenant stands with each of its budgets, as the record says.

        What instances spent since their last reports is counted as held.

        Raises:
            TenantRequiredError: No tenant is given and none is in scope.
            DatabaseError: The record is away.
        """
        tenant = resolve_tenant(tenant_id)
        states = []
        for budget in self._shares.budgets_of(tenant):
            start = budget.starts_on(self._shares.now())
            spent, held = await self._shares.ledger.read(tenant, budget, start)
            states.append(BudgetState(budget, spent, held, budget.resets_at(start)))
        return tuple(states)

    async def report(self) -> None:
        """Tell the record what was spent since the last report, and give idle shares back.

        It happens by itself every few seconds. A report that fails is logged and made up for.
        """
        await self._shares.report()

    async def __aenter__(self) -> Self:
        """Nothing to open: reports begin with the first call."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Report what is left to report, and give every share back."""
        await self._shares.close()

    def _amount(self, call: Call[Request], expected: Usage, shares: Sequence[Share]) -> Amount:
        tokens = expected.input_tokens + expected.output_tokens
        if not any(share.budget.counts_money for share in shares):
            return Amount(tokens=tokens)
        try:
            return Amount(expected_cost(call, expected), tokens)
        except DatabaseError:
            if not self._goes_on_alone:
                raise
            # Nobody knows what it costs, nor will anybody who settles it.
            return Amount(tokens=tokens)

    def _actual(self, call: Call[Request], usage: Usage, amount: Amount, before: int) -> Amount:
        """Return what a call has spent, requests whose answers were lost on the way included."""
        tokens = usage.input_tokens + usage.output_tokens
        actual = Amount(cost_of(call, usage, otherwise=amount.usd), tokens)
        lost = min(call.notes.lost, max(0, call.notes.attempts - before))
        for _ in range(lost):
            actual += amount
        return actual

    async def _reserved(
        self, call: Call[Request], shares: Sequence[Share], amount: Amount, tenant: TenantId
    ) -> Call[Request]:
        """Reserve from every share, and return the call with the time that is left."""
        began = time.monotonic()
        left = remaining(call.timeout)
        end = began + (call.timeout if left is None else left)
        reserved: list[Share] = []
        try:
            for share in shares:
                granted = await share.reserve(amount, timeout=max(0.0, end - time.monotonic()))
                self._shares.tell(share)
                if not granted:
                    raise _exceeded(share, tenant)  # noqa: TRY301 - what the others gave goes back
                reserved.append(share)
        except BaseException:
            self._settle(reserved, amount, Amount())
            raise
        waited = time.monotonic() - began
        if waited < _WAITED or call.emit is not None:
            return call
        return replace(call, timeout=max(_WAITED, call.timeout - waited))

    async def _settled(
        self,
        call: Call[Request],
        proceed: Proceed[Request, Result],
        shares: Sequence[Share],
        amount: Amount,
    ) -> Result:
        """Pass the call on; when it fails, settle by whether it may be charged."""
        before = call.notes.attempts
        try:
            return await proceed(call)
        except BaseException as error:
            sent = call.notes.attempts > before or isinstance(call.request, EmbeddingRequest)
            actual = Amount()
            for _ in range(max(call.notes.lost, int(sent and may_be_charged(error)))):
                actual += amount
            self._settle(shares, amount, actual)
            raise

    @staticmethod
    def _settle(shares: Sequence[Share], amount: Amount, actual: Amount) -> None:
        for share in shares:
            share.settle(amount, actual)


def _is_time(number: object) -> bool:
    if isinstance(number, bool) or not isinstance(number, int | float):
        return False
    return math.isfinite(number) and number > 0


def _budgets_of(budgets: Sequence[Budget] | BudgetsOf) -> BudgetsOf:
    """Return what says which budgets a tenant has, and holds to it that they are some."""
    if not callable(budgets):
        same = _checked(budgets)
        return lambda _tenant: same
    if inspect.iscoroutinefunction(budgets) or inspect.iscoroutinefunction(
        getattr(budgets, "__call__", None)  # noqa: B004 - of an object that can be called
    ):
        message = "The function that says which budgets a tenant has is async."
        remedy = "Pass a plain one: look up beforehand what it has to wait for."
        raise ConfigurationError(message, remedy=remedy)
    return lambda tenant: _checked(budgets(tenant))


def _checked(given: object) -> Sequence[Budget]:
    if inspect.iscoroutine(given):
        given.close()  # nobody will wait for it
    budgets = tuple(given) if isinstance(given, Sequence) else (given,)
    found = [budget for budget in budgets if isinstance(budget, Budget)]
    if not isinstance(given, Sequence) or len(found) < len(budgets):
        message = f"The budgets are no sequence of `Budget`, but a {type(given).__name__}."
        raise ConfigurationError(message, remedy="Pass a list of them.")
    names = [budget.name for budget in found]
    if len(set(names)) < len(names):
        message = f"Two of the budgets {', '.join(sorted(names))} have one name."
        raise ConfigurationError(message, remedy="Name each differently: it names the record.")
    return found


def _cheaper(shares: Sequence[Share]) -> str | None:
    for share in shares:
        if share.budget.cheaper_model is not None and share.is_soft_reached:
            return share.budget.cheaper_model
    return None


def _exceeded(share: Share, tenant: TenantId) -> BudgetExceededError:
    resets = share.budget.resets_at(share.start)
    message = f"The budget {share.budget.name!r} of tenant {tenant!r} does not cover the call."
    remedy = f"It resets at {resets.isoformat()}; raise it, or ask for less."
    return BudgetExceededError(
        message, budget=share.budget.name, resets_at=resets, remedy=remedy, tenant_id=tenant
    )
