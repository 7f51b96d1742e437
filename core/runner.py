"""ActionRunner, the gateway: its `execute` is the one way to change state. Made by `Bus.runner`, one per caller."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from actionbus.core.declare.handler import Arguments
from actionbus.core.declare.registry import Action, Registry
from actionbus.core.errors import Misuse, NotUnique
from actionbus.core.gateway.call import Call
from actionbus.core.gateway.inside import running
from actionbus.core.gateway.many import Asked, Many
from actionbus.core.gateway.permission_check import ask
from actionbus.core.gateway.preview import Previewing
from actionbus.core.gateway.services import Services
from actionbus.core.gateway.ticket import Ticket, due_at
from actionbus.core.history.reverting import ACTION as REVERT
from actionbus.core.history.reverting import Reverting
from actionbus.core.queueing.at_once import run_at_once
from actionbus.core.queueing.operating import operate
from actionbus.core.queueing.queued import QueueingCall
from actionbus.core.values.caller import Caller
from actionbus.core.values.determinism import now
from actionbus.core.values.identifiers import AnyId, action_id_of
from actionbus.core.values.preview import Preview
from actionbus.core.values.public import public
from actionbus.core.values.record import Outcome


def reverting(services: Services) -> Services:
    """The same with the action that reverts others, and no further one."""
    application = Reverting(services.backend).application(services.application)
    return replace(services, application=application, registry=Registry(application))


@public
class ActionRunner:
    """The gateway bound to one caller. Safe to use from several threads."""

    def __init__(self, services: Services, caller: Caller) -> None:
        self._services = services
        self._caller = caller
        self._closed = False

    @property
    def actor(self) -> str | None:
        """On whose behalf actions run; None for nobody."""
        return self._caller.actor

    @property
    def is_operator(self) -> bool:
        """Whether it acts for whoever runs the service, who needs nobody's leave for what is for operators."""
        return self._caller.operator

    def execute(
        self, name: str, arguments: Mapping[str, Any] | None = None, *, idempotency_key: str | None = None
    ) -> Outcome:
        """Run an action and give its outcome, which is then durable.

        Raises UnknownAction, InvalidArguments, PermissionDenied, or what the handler raised: in each case nothing was
        changed and the journal says why. With an `idempotency_key` used before: the first outcome again, or
        IdempotencyConflict, ActionInProgress, ActionInterrupted, ActionFailed. JournalUnavailable when the journal
        could not be written, OutcomeUnknown when the database was lost while committing.
        """
        self._refuse_misuse()
        call = Call.of(self._services, self._caller, name, arguments, idempotency_key)
        if self._services.middleware.is_around_calls:
            outcome = self._services.middleware.around_call(call.told, lambda: self._execute(call, name))
        else:
            outcome = self._execute(call, name)
        if call.at_once:
            self._run_at_once(call.at_once)
        return outcome

    def _run_at_once(self, action_ids: Sequence[UUID]) -> None:
        run_at_once(self._services, action_ids, self._caller.overrides)

    def _execute(self, call: Call, name: str) -> Outcome:
        with call as connection:  # one, for all that follows
            try:
                if not call.submit(connection):
                    return call.repeat(connection)
                action = self._get_action_handler(name)
                return call.run(connection, action)
            except BaseException as error:
                return call.settle(connection, error)

    def execute_many(self, actions: Iterable[Asked | None]) -> list[Outcome]:
        """Run many actions and give their outcomes, in order; see `execute_each`, which keeps none in memory."""
        return list(self.execute_each(actions))

    def execute_each(self, actions: Iterable[Asked | None]) -> Iterator[Outcome]:
        """Run actions one after the other, many to a transaction, and give each outcome once it is durable.

        An action is a tuple of name, arguments and, if it has one, idempotency key. Each is recorded and fails as if
        alone: its outcome says so, and the next one goes on. Runs as far as outcomes are taken, in chunks of at most
        500 actions; locks last until the chunk's commit, at most about a second after the first of them. None among
        them says that the next one is long in coming: what was taken so far is run before it is waited for.

        Raises JournalUnavailable or OutcomeUnknown as `execute` does; ActionInProgress in the place of an action whose
        key is in use and has no outcome yet; and what `actions` raises, once all before is done.
        """
        self._refuse_misuse()
        return self._outcomes(actions)

    def _outcomes(self, actions: Iterable[Asked | None]) -> Iterator[Outcome]:
        for outcome in Many(self._services, self._caller, actions, self._execute, self._run_at_once).outcomes():
            yield outcome
            self._refuse_misuse()

    def execute_async(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        eta: datetime | None = None,
        countdown: float | None = None,
        idempotency_key: str | None = None,
    ) -> Ticket:
        """Validate an action now and let a worker run it; the ticket leads to its outcome.

        `eta` is when it is due (naive: UTC), `countdown` in how many seconds; at once if neither is given. Raises
        UnknownAction, InvalidArguments, PermissionDenied as `execute` does, ValueError for an invalid time.
        Permissions are asked again when it runs. A broker that is away loses nothing: `ticket.problem` says so, and the
        message is sent later. Where the handler is `unique`, the ticket may lead to another one, and is `repeated`.
        """
        self._refuse_misuse()
        due = due_at(eta, countdown)
        call = QueueingCall.of(self._services, self._caller, name, arguments, idempotency_key)
        return self._services.middleware.around_call(call.told, lambda: self._queue(call, name, due))

    def preview(self, name: str, arguments: Mapping[str, Any] | None = None) -> Preview:
        """What an action would do: it is run, its outcome and the images of its rows are told, and it is rolled back.

        Nothing is journaled, sent or queued, and what the caller may not do he may not preview: rejected, denied and
        failed are outcomes here, and not raised. Outside calls are refused where nothing is declared to answer them
        (`outside(…, preview=…)`, or `overrides`); what a handler does past its dependencies is done. It holds the locks
        that the action would, while it runs. Raises JournalUnavailable where the database cannot be asked or does not
        show row images to its user.
        """
        self._refuse_misuse()
        return Previewing(self._services, self._caller, name, arguments).run()

    def revert(self, action_id: AnyId, *, idempotency_key: str | None = None) -> Outcome:
        """Put back what one action, and those nested in it, changed; an action on record itself, caused by that one.

        Its permission is `actionbus:revert`: the checkpoint grants it, or only operators have it. Raises RevertConflict
        where rows moved on since, or cannot be put back; InvalidArguments for what changed nothing; else as `execute`.
        """
        self._refuse_misuse()
        which = action_id_of(action_id)
        services, cause = reverting(self._services), None
        if services.journal.outcome(which) is not None:  # a cause without outcome would make it look nested
            cause = which
        call = Call.of(services, self._caller, REVERT, {"action_id": str(which)}, idempotency_key, cause=cause)
        own = ActionRunner(services, self._caller)
        return services.middleware.around_call(call.told, lambda: own._execute(call, REVERT))

    def cancel(self, action_id: AnyId) -> Outcome:
        """Cancel a queued action: it is not begun any more, or asked to end by `self.cancelled` if it runs.

        Of a dead letter: it is off the list. This and what follows are actions on record, `cancel_run` and so on, whose
        permission is `runs:operate`: the checkpoint grants it, or only operators have it. Raises InvalidArguments for
        what is not there, PermissionDenied.
        """
        return self._operate("cancel_run", {"action_id": str(action_id_of(action_id))})

    def retry(self, action_id: AnyId) -> Outcome:
        """Queue a dead letter again, on behalf of who asked for it: a new action, whose id is `result["again"]`."""
        return self._operate("retry_run", {"action_id": str(action_id_of(action_id))})

    def reschedule(self, action_id: AnyId, due_at: datetime | None = None) -> Outcome:
        """Let a queued action that waits be due at another time (naive: UTC), or now. Raises ValueError for no time."""
        if not isinstance(due_at, datetime | None):
            raise ValueError(f"a time must be a datetime (naive: UTC), not {due_at!r}")
        at = {} if due_at is None else {"due_at": due_at.isoformat()}
        return self._operate("reschedule_run", {"action_id": str(action_id_of(action_id)), **at})

    def pause(self, queue: str) -> Outcome:
        """Let no more actions of a queue be begun; what runs goes on."""
        return self._operate("pause_queue", {"name": queue})

    def resume(self, queue: str) -> Outcome:
        """Let actions of a queue be begun again."""
        return self._operate("resume_queue", {"name": queue})

    def _operate(self, name: str, arguments: Mapping[str, Any]) -> Outcome:
        self._refuse_misuse()
        return operate(self._services, self._caller, name, arguments)

    def require(self, permission: str, arguments: Mapping[str, Any] | None = None) -> None:
        """Ask the application's checkpoint outside of any action, for what only reads. Raises PermissionDenied.

        Nothing is journaled, and what the checkpoint writes is rolled back. Without a checkpoint all is permitted.
        """
        self._refuse_misuse()
        ask(self._services, self._caller, permission, Arguments(arguments or {}))

    def close(self) -> None:
        """Let it run nothing any more, since the request it served is over."""
        self._closed = True

    def _queue(self, call: QueueingCall, name: str, due: float | None) -> Ticket:
        with call as connection:
            try:
                if not call.submit(connection):
                    return call.ticket_of_first(connection)
                return call.queue(connection, self._get_action_handler(name), due)
            except NotUnique as error:
                return call.ticket_of_same(connection, error)
            except BaseException as error:
                outcome = call.settle(connection, error)
                return Ticket(outcome.action_id, outcome.action, now(), _services=self._services)

    def _get_action_handler(self, name: str) -> Action:
        """What `Call.of` may have found before; here, with the submitted record there, UnknownAction is raised."""
        return self._services.registry.get(name)

    def _refuse_misuse(self) -> None:
        if self._closed:
            raise Misuse("this runner is closed, with the request it was made for; make another with bus.runner()")
        here = running()
        if here is not None and here.engine is not self._services.engine:
            raise Misuse(
                "an action of another bus is no part of this one: it would be committed by itself, whatever becomes of "
                "the action whose handler calls it. Run it once this one has ended; self.runner runs those of this bus"
            )
        if here is not None:
            raise Misuse(
                "a handler runs other actions with self.runner (requires = ['runner']), inside its transaction"
            )
