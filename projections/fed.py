"""FedDeclaration, what a projection and a subscription declare alike. Their base; applications use those two."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from actionbus.projections.operating import ACTIONS, providers

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,79}", re.ASCII)


class FedDeclaration:
    """Has a name, under which its position is kept, and brings the actions by which operators look after it."""

    name: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if not cls.__dict__.get("name"):
            cls.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()

    @classmethod
    def action_packages(cls) -> Sequence[str]:
        """The actions of operators: to pause it, to skip a record."""
        return ACTIONS

    @classmethod
    def dependencies(cls) -> Mapping[str, Any]:
        """What those actions require."""
        return providers()


def is_name(name: object) -> bool:
    """Whether a projection or a subscription may be called that."""
    return isinstance(name, str) and bool(_NAME.fullmatch(name))
