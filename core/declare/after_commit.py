"""AfterCommit: how the calls of a dependency are made that is declared `outside(…, after_commit=True)`.

Part of a provider's declaration, `declare.dependencies`; used by `declare.performing` and `gateway.postponed`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from keyword import iskeyword
from typing import Final

from actionbus.core.declare.queue import Retry

_ATTEMPTS: Final = 20
_ANSWERING: Final = frozenset({"checkpoint", "serializer", "logger"})
"""What the gateway itself asks, and needs the answer of."""


@dataclass(frozen=True, slots=True)
class AfterCommit:
    """`key` names the parameter that gets a call's key; `retry` says what a call is made again for."""

    key: str | None = None
    retry: Retry | None = None

    @property
    def retries(self) -> Retry:
        """What was declared, or whatever is raised: pauses are doubled from a second to an hour."""
        return self.retry or Retry(on=(Exception,), attempts=_ATTEMPTS)

    def problems(self, name: str, is_meant: bool, *, has_preview: bool) -> Iterator[str]:
        """What is wrong with it, of the dependency `name`; `is_meant` says that calls are made after the commit."""
        where = f"dependency {name!r}"
        if not is_meant:
            if self != AT_ONCE:
                yield f"{where}: key= and retry= are of calls that are made later; give after_commit=True too"
            return
        if name in _ANSWERING:
            yield f"{where} is asked by the gateway, which needs its answer at once; leave out after_commit"
        if has_preview:
            yield f"{where}: with after_commit a preview shows its calls and makes none; leave out preview="
        if self.key is not None and not (
            isinstance(self.key, str) and self.key.isidentifier() and not iskeyword(self.key)
        ):
            yield f"{where}: key= is the name of the parameter that gets a call's key, not {self.key!r}"
        if self.retry is not None and not isinstance(self.retry, Retry):
            yield f"{where}: retry= must be a Retry(…), not {self.retry!r}"
        elif self.retry is not None:
            yield from (f"{where}: {problem}" for problem in self.retry.problems())


AT_ONCE: Final = AfterCommit()
"""Of what is not postponed."""
