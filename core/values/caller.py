"""Caller: on whose behalf a runner acts; part of every record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from actionbus.core.values import payload


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf a runner acts."""

    actor: str | None = None
    correlation_id: str | None = None
    context_text: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    operator: bool = False
    """Whether it is somebody who has the database anyway, so that nobody need grant what is for operators."""

    def context(self) -> dict[str, Any]:
        """The runner's context, decoded anew for every handler."""
        return dict(payload.loads(self.context_text)) if self.context_text else {}
