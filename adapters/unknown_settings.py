"""Names that begin with ACTIONBUS_ and are no setting: mistyped, they would do nothing. Told by what reads settings."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from actionbus.adapters.settings import SETTINGS
from actionbus.core.values.nearest import nearest

_BEGINNING: Final = "ACTIONBUS_"
_KNOWN: Final = frozenset(each.name for each in SETTINGS)
_OF_KUBERNETES: Final = re.compile(
    r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)", re.ASCII
)
"""What it puts into the environment of a pod beside a service that is called `actionbus`, or `actionbus-something`."""
_ALIKE: Final = 0.7
_told: set[str] = set()
"""Those that this process, or what it was forked from, has told of."""


def tell_unknown(names: Iterable[str]) -> list[str]:
    """What to say of those that no setting has, of each once in a process; `names`: the environment's, or Flask's."""
    found = {name.removeprefix(_BEGINNING) for name in names if name.startswith(_BEGINNING)} - _KNOWN - _told
    unknown = sorted(name for name in found if not _OF_KUBERNETES.fullmatch(name))
    _told.update(unknown)
    return [_sentence(name) for name in unknown]


def _sentence(name: str) -> str:
    near = nearest(name, _KNOWN, _ALIKE)
    hint = f"did you mean {_BEGINNING}{near}?" if near else "docs/settings.md has those there are"
    return f"{_BEGINNING}{name} is no setting, and nothing reads it; {hint}"
