"""ReadModel, what the bus asks of projections and subscriptions; and which of them an Application is given."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, Final, Protocol

from actionbus.core.declare.given import listed

_BASES: Final = {"projections": "Projection", "subscriptions": "Subscription"}
"""By parameter of Application, what `actionbus.projections` calls the base of its classes."""


class ReadModel(Protocol):
    """What the bus asks of a class in `projections=` or `subscriptions=`; those of `projections` answer."""

    name: ClassVar[str]

    @classmethod
    def action_packages(cls) -> Sequence[str]:
        """Packages of actions that come with it."""
        ...

    @classmethod
    def dependencies(cls) -> Mapping[str, Any]:
        """Providers of what those actions require; the application's own of the same names win."""
        ...

    @classmethod
    def problems(cls, actions: Collection[str]) -> list[str]:
        """What is wrong with its declaration, given the names of all actions."""
        ...


def read_models(name: str, given: Any, problems: list[str]) -> tuple[type[ReadModel], ...]:
    """The classes in `projections=` or `subscriptions=`; what is wrong with them is added to `problems`."""
    expected = f"subclasses of {_BASES[name]}"
    found = listed(
        name, given, lambda each: isinstance(each, type) or _is_fed(type(each)), expected, problems, _of(given)
    )
    for each in found:
        kind = each if isinstance(each, type) else type(each)
        other = next((parameter for parameter, base in _BASES.items() if parameter != name and _has(kind, base)), None)
        if other is not None:
            problems.append(f"{name}: {kind.__qualname__} is a {_BASES[other]}: {other}=[{kind.__qualname__}]")
        elif not _is_fed(kind):
            problems.append(f"{name}: expected {expected}, not the class {kind.__qualname__}")
        elif each is not kind:
            problems.append(f"{name}: give the class {kind.__qualname__}, not an object of it")
    return tuple(each for each in found if isinstance(each, type) and _is_fed(each))


def _of(given: Any) -> str:
    return str(getattr(given, "__qualname__", ""))


def _has(kind: type, base: str) -> bool:
    return any(each.__name__ == base and each.__module__.startswith("actionbus.") for each in kind.__mro__)


def _is_fed(kind: type) -> bool:
    return all(callable(getattr(kind, name, None)) for name in ("action_packages", "dependencies", "problems"))
