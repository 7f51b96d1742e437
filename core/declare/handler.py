"""ActionHandler, the base of every action; applications subclass it, the runner drives it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, KeysView, Mapping, Sequence
from typing import Any, ClassVar

from actionbus.core.declare.arg import Arg
from actionbus.core.declare.queue import DEFAULT_QUEUE, Retry, Unique
from actionbus.core.errors import WHOLE_ACTION
from actionbus.core.values.public import public


class Arguments:
    """Validated arguments: read as attributes (`args.name`), unpacked with `**args`, never changed."""

    __slots__ = ("_values",)
    _WITHOUT_JSON: ClassVar[str] = "these are the action's Arguments; give those that are wanted, or dict(self.args)"
    _values: dict[str, Any]

    def __init__(self, values: Mapping[str, Any]) -> None:
        object.__setattr__(self, "_values", dict(values))

    def __getattr__(self, name: str) -> Any:
        try:
            return self._values[name]
        except KeyError:
            known = ", ".join(self._values) or "none"
            raise AttributeError(f"no argument {name!r}; the action declares: {known}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"arguments are read-only; cannot set {name!r}")

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def keys(self) -> KeysView[str]:
        """The names, as `**args` needs them."""
        return self._values.keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<Arguments {', '.join(self._values)}>"


@public
class ActionHandler:
    """One thing the application can do. Subclass it in a module of the action's name.

    The runner sets `args` (by `set_args`) and every name in `requires`, asks `permission`,
    then calls `validate()` and `execute()` inside one transaction.
    """

    version: ClassVar[int] = 1
    """Raise it when the meaning of arguments or result changes."""
    requires: ClassVar[Sequence[str]] = ()
    arguments: ClassVar[Mapping[str, Arg]] = {}
    permission: ClassVar[str | None] = None
    for_operators: ClassVar[bool] = False
    """Whether it is a decision of those who run the service, about the machinery and not the application's state.

    It is then no part of the catalogue over HTTP, where no checkpoint is there to grant its `permission` it is denied
    to all but operators (`Bus.runner(operator=True)`), no other action runs it, and a replay leaves it out.
    """
    isolation: ClassVar[str | None] = None
    """PostgreSQL isolation level of the action's transaction; None is the Bus's."""
    queue: ClassVar[str] = DEFAULT_QUEUE
    """Where workers take it from, if it is run by execute_async(). So are all that follow for queued actions alone."""
    priority: ClassVar[int] = 0
    """Of all that are due in a queue, higher ones are begun first."""
    retry: ClassVar[Retry | None] = None
    """What it may raise and be begun again for. Without it, whatever it raises is its outcome."""
    timeout: ClassVar[float | None] = None
    """Seconds that an attempt may take until ActionTimeout is raised in it."""
    concurrency_key: ClassVar[str | Sequence[str] | None] = None
    """Arguments by whose values at most one action runs at a time, in the order in which they were to be due."""
    unique: ClassVar[Unique | None] = None
    """Which others of its name keep it from being queued."""
    every: ClassVar[str | None] = None
    """When it is queued by itself: five fields of cron and, at wish, a time zone, else UTC."""

    _performs: ClassVar[str | None] = None
    """The dependency whose postponed calls it makes; see `declare.performing`."""
    __loaders__: ClassVar[Any] = None
    """What loads the arguments, which the registry keeps here."""
    args: Any
    """The validated `Arguments`. A handler may say what is in them: `args: AddAssetArgs`, from `actionbus stubs`."""

    def __init__(self) -> None:
        self._rejections: dict[str, list[str]] = {}
        self._ask_cancelled: Callable[[], bool] | None = None

    @property
    def cancelled(self) -> bool:
        """Whether an operator wants this queued action to end. Ask now and then, and raise ActionCancelled if so."""
        return self._ask_cancelled is not None and self._ask_cancelled()

    @classmethod
    def upcast(cls, arguments: dict[str, Any], version: int) -> dict[str, Any]:
        """Bring arguments that were submitted to an older `version` of this handler into the present shape.

        Called by a replay, and for actions that were queued before the handler changed. JSON in, JSON out.
        """
        return arguments

    def set_args(self, values: Mapping[str, Any]) -> None:
        """Take the validated arguments. Called once, before dependencies are built."""
        self.args = Arguments(values)

    def validate(self) -> None:
        """Check the arguments against the state; call `reject` for what is wrong. Optional."""

    def execute(self) -> Any:
        """Change the state; what is returned, in its JSON form, becomes the outcome's result.

        Whatever it raises fails the action and reaches the caller as itself. NotImplementedError: it is not written.
        """
        raise NotImplementedError(f"{type(self).__name__} has no execute()")

    def reject(self, field: str | None, message: str) -> None:
        """Refuse `field` (None: the action as a whole). Collects; the transaction is rolled back when the step returns.

        It does not raise: return after it where what follows could not bear it. What the step raises all the same is
        what the action failed with, with a note of what was refused before: it may be a fault that nobody knows of.
        """
        self._rejections.setdefault(field or WHOLE_ACTION, []).append(message)
