"""Absent: stands where a dependency would be that is not there. Used by `gateway.previewed_world` and `postponed`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from actionbus.core.gateway.specials import SPECIAL_METHODS


class Absent:
    """Has every attribute, and refuses whatever is done with one, as far as its classes allow nothing of it."""

    __slots__ = ("_name",)
    _name: str

    def __init__(self, name: str) -> None:
        object.__setattr__(self, "_name", name)

    def _path(self, attribute: str) -> str:
        """What an attribute is called. Raises AttributeError for what Python asks of any object."""
        if attribute.startswith("__") and attribute.endswith("__"):
            raise AttributeError(attribute)
        return f"{self._name}.{attribute}"

    def _refuse(self, what: str) -> NoReturn:
        """Raise what tells that this cannot be done here."""
        raise NotImplementedError(what)

    def __setattr__(self, attribute: str, value: Any) -> None:
        self._refuse(f"{self._name}.{attribute} = …")

    def __delattr__(self, attribute: str) -> None:
        self._refuse(f"del {self._name}.{attribute}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._refuse(f"{self._name}(…)")

    def __iter__(self) -> Iterator[Any]:
        self._refuse(f"iter({self._name})")

    def __enter__(self) -> Any:
        self._refuse(f"with {self._name}")

    def __exit__(self, *_: object) -> None:
        """Is never called: what is absent is never entered."""

    def __hash__(self) -> int:
        self._refuse(f"hash({self._name})")


def _refusing(special: str) -> Callable[..., Any]:
    def method(self: Absent, *_: Any) -> NoReturn:
        self._refuse(f"{self._name}.{special}")

    return method


for _special in SPECIAL_METHODS:
    setattr(Absent, _special, _refusing(_special))
