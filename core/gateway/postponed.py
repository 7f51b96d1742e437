"""What a handler gets for a dependency that is `outside(…, after_commit=True)`: calls of it are written down, not made.

Made by `gateway.execution`; `NestedRunner.postpone` queues a call as the action `perform_NAME` (`declare.performing`).
docs/decisions/0031-calls-after-the-commit.md says why it is made at least once if the handler's action succeeded, and
else never.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NoReturn
from uuid import UUID

from actionbus.core.declare.dependencies import Provider
from actionbus.core.errors import Misuse
from actionbus.core.gateway.absent import Absent
from actionbus.core.gateway.sealing import Sealer
from actionbus.core.secrecy.scrubbing import Scrubber
from actionbus.core.values import payload, tagged
from actionbus.core.values.limits import Limits
from actionbus.core.values.public import public

Postpone = Callable[[Provider, str, Sequence[Any], Mapping[str, Any]], "PostponedCall"]


@public
class PostponedCall(Absent):
    """What a call gives that is made after the commit: no answer, only who will make it, and under which key."""

    __slots__ = ("action_id", "key")
    _WITHOUT_JSON: ClassVar[str] = (
        "a PostponedCall stands for a call that is made after the commit, and has no answer yet; give its `action_id`, "
        "whose outcome will have what came of it"
    )
    """Where it is returned, or handed to another action."""
    action_id: UUID
    """The action that makes the call; its outcome has what came of it."""
    key: str
    """What the other side is told, by the parameter that `outside(…, key=…)` names."""

    def __init__(self, name: str, action_id: UUID, key: str) -> None:
        super().__init__(name)
        object.__setattr__(self, "action_id", action_id)
        object.__setattr__(self, "key", key)

    def __getattr__(self, attribute: str) -> Any:
        self._refuse(self._path(attribute))

    def _refuse(self, what: str) -> NoReturn:
        raise Misuse(
            f"{self._name} is called after the commit, so there is no answer to work with here ({what}); what comes of "
            "it is in the outcome of the action `action_id`. To have the answer at once, leave out after_commit"
        )

    def __repr__(self) -> str:
        return f"<{self._name}, to be called after the commit by the action {self.action_id}>"


class Postponing(Absent):
    """Stands for the dependency, or a part of it reached by attribute."""

    __slots__ = ("_postpone", "_provider")
    _WITHOUT_JSON: ClassVar[str] = "it is a dependency that is called after the commit; give what its calls give, by id"
    _provider: Provider
    _postpone: Postpone

    def __init__(self, provider: Provider, postpone: Postpone, name: str) -> None:
        super().__init__(name)
        object.__setattr__(self, "_provider", provider)
        object.__setattr__(self, "_postpone", postpone)

    def __getattr__(self, attribute: str) -> Postponing:
        return Postponing(self._provider, self._postpone, self._path(attribute))

    def __call__(self, *args: Any, **kwargs: Any) -> PostponedCall:
        _require_callable(self._provider, self._name, args, kwargs)
        return self._postpone(self._provider, self._name, args, kwargs)

    def _refuse(self, what: str) -> NoReturn:
        raise Misuse(
            f"{what}: of {self._provider.name}, which is used after the commit, methods can be called and nothing "
            "else; to read from it at once, give another dependency without after_commit"
        )

    def __repr__(self) -> str:
        return f"<{self._name}, called after the commit>"


def _require_callable(provider: Provider, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Raise TypeError for arguments that a method does not take, where its class is known: later nobody would see."""
    key = provider.after_commit.key
    if key is not None and key in kwargs:
        raise Misuse(f"{name}: {key} is set to the call's own key when the call is made; leave it out")
    found: Any = provider.factory
    if not isinstance(found, type):
        return
    for part in name.split(".")[1:]:
        found = inspect.getattr_static(found, part, None)
    if not inspect.isfunction(found):
        return
    given = {**kwargs, **({key: ""} if key is not None else {})}
    try:
        inspect.signature(found).bind(None, *args, **given)
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from None


def arguments_of(
    name: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    key: str,
    limits: Limits,
    secrecy: tuple[Scrubber, Sealer],
) -> dict[str, Any]:
    """The arguments of the action that makes a call. Raises Misuse for what cannot wait for it."""
    positional = [_kept(f"{name}, argument {number}", each) for number, each in enumerate(args, start=1)]
    named = {each: _kept(f"{name}, argument {each}", value) for each, value in kwargs.items()}
    arguments = {"call": name, "positional": positional, "named": named, "key": key}
    if (size := len(payload.dumps(arguments))) > limits.call_bytes:
        raise Misuse(f"{name}: arguments of {size} bytes, more than the {limits.call_bytes} that are kept; give ids")
    scrubber, sealer = secrecy
    if scrubber and scrubber.json([positional, named]) != [positional, named]:
        raise Misuse(f"{name} is given a secret, which nothing keeps until the call is made; {_LOOK_UP}")
    if sealer and sealer.finds([positional, named]):
        raise Misuse(f"{name} is given what is personal, which would stand in the queue past its erasure; {_LOOK_UP}")
    return arguments


_LOOK_UP = "give an id by which the dependency finds it, or call it at once, without after_commit"


def _kept(what: str, value: Any) -> Any:
    try:
        return tagged.encode(value)
    except (tagged.Opaque, ValueError, RecursionError) as why:
        told = str(why) if isinstance(why, tagged.Opaque) else f"a {type(value).__name__} that JSON cannot hold"
        raise Misuse(
            f"{what} cannot be kept until the call is made: {told}; give texts, numbers, times, ids, dataclasses, "
            "Enums, or lists and dicts of them"
        ) from None
