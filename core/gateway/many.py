"""Many actions, one after the other, as `execute_many` runs them: gathered into chunks. Called by the runner.

An action with outside dependencies is none of a chunk: what it asked of the world must not be taken back by what comes
after it, nor asked twice. So it runs alone, in its place. The same for all if the application has middleware around
whole calls, which one call at a time can be inside of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from actionbus.core.declare.registry import Action
from actionbus.core.errors import Misuse
from actionbus.core.gateway.call import Call
from actionbus.core.gateway.chunk import Chunk
from actionbus.core.gateway.services import Services
from actionbus.core.values.caller import Caller
from actionbus.core.values.record import Outcome

Asked = tuple[str, Mapping[str, Any] | None] | tuple[str, Mapping[str, Any] | None, str | None]
"""An action's name, its arguments and, if it has one, its idempotency key."""


class Many:
    """The actions of one iterable, and their outcomes in the same order."""

    def __init__(
        self,
        services: Services,
        caller: Caller,
        asked: Iterable[Asked | None],
        execute: Callable[[Call, str], Outcome],
        then: Callable[[Sequence[UUID]], None],
    ) -> None:
        """`execute` runs one alone, `then` what is to be run once they are committed."""
        self._services = services
        self._caller = caller
        self._asked = iter(asked)
        self._execute = execute
        self._then = then
        self._chunk: Chunk | None = None
        self._reaching_out: set[str] = set()

    def outcomes(self) -> Iterator[Outcome]:
        """Run as many as are asked for. What the iterable raises is raised once all before it is done."""
        error: Exception | None = None
        while error is None:
            try:
                asked = next(self._asked)
                name, arguments, key = _read(asked) if asked is not None else ("", None, None)
            except StopIteration:
                break
            except Exception as raised:
                error = raised
                break
            if asked is None:
                yield from self._run_chunk()
                continue
            action = self._services.registry.find(name)
            if self._is_alone(action):
                yield from self._run_chunk()
                yield self._run_alone(name, arguments, key)
                continue
            isolation = action.isolation if action else self._services.application.isolation
            if self._chunk is not None and self._chunk.isolation != isolation:
                yield from self._run_chunk()
            self._chunk = self._chunk or Chunk(self._services, self._caller, isolation)
            self._chunk.add(name, arguments, key)
            if self._chunk.is_full():
                yield from self._run_chunk()
        yield from self._run_chunk()
        if error is not None:
            raise error

    def _is_alone(self, action: Action | None) -> bool:
        """Whether it is none of a chunk. One that may run others finds out; from then on it is known."""
        if self._services.middleware.is_around_calls:
            return True
        if action is None:
            return False
        return action.name in self._reaching_out or any(each.nature == "outside" for each in action.plan.steps)

    def _run_chunk(self) -> Iterator[Outcome]:
        chunk, self._chunk = self._chunk, None
        if chunk is not None:
            yield from chunk.run(self._then)
            self._reaching_out |= chunk.reaching_out()

    def _run_alone(self, name: str, arguments: Mapping[str, Any] | None, key: str | None) -> Outcome:
        """As `execute`; what it raises for an action that has an outcome is that outcome."""
        call = Call.of(self._services, self._caller, name, arguments, key)
        own = call.told().action_id
        try:
            outcome = self._services.middleware.around_call(call.told, lambda: self._execute(call, name))
        except Exception:
            action_id = call.told().action_id  # of a repeat, the first one's
            record = self._services.journal.outcome(action_id)
            if record is None:
                raise
            return Outcome.of(record, repeated=action_id != own)
        self._then(call.at_once)
        return outcome


def _read(asked: Any) -> tuple[Any, Any, str | None]:
    """What was asked. Raises Misuse for what is no such tuple; a wrong name or argument is rejected as an action."""
    if isinstance(asked, Sequence) and not isinstance(asked, str) and len(asked) in (2, 3):
        name, arguments, *key = asked
        return name, arguments, key[0] if key else None
    raise Misuse(
        "execute_many takes tuples of a name, arguments and perhaps an idempotency key, such as "
        f"('add_asset', {{'name': 'a'}}); it got a {type(asked).__name__}"
    )
