"""Where else an action is told of, as settings say: its page in the inspector, its logs, its trace.

Problems, logs and JUnit reports lead to the page, which leads on to the logs and the trace. Whoever runs the service
wrote the addresses; values stand in their paths and queries, percent-encoded, never in their beginnings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlsplit

from actionbus.adapters.settings import BadSetting

_PLACE: Final = re.compile(r"\{([^{}]*)\}")
_TRACE: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}.*")
"""A W3C `traceparent`."""
PLACES: Final = ("action_id", "action", "position", "correlation_id", "trace_id", "since", "until")


@dataclass(frozen=True)
class Links:
    """The addresses that are set."""

    inspector: str | None = None
    logs: str | None = None
    trace: str | None = None

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Links:
        """Those of an environment, or of Flask's configuration. Raises BadSetting."""
        return cls(
            _address("INSPECTOR_URL", settings.get("ACTIONBUS_INSPECTOR_URL"), ()),
            _address("LOGS_URL", settings.get("ACTIONBUS_LOGS_URL"), PLACES),
            _address("TRACE_URL", settings.get("ACTIONBUS_TRACE_URL"), PLACES),
        )

    def page(self, action_id: object) -> str | None:
        """An action's page in the inspector, if it is known where that is."""
        return f"{self.inspector.rstrip('/')}/actions/{action_id}" if self.inspector and action_id else None

    def onward(self, found: Mapping[str, Any]) -> list[tuple[str, str]]:
        """What else tells of an action that is shown, by name; not what lacks a value that it needs."""
        values = _values(found)
        told = [("logs", self.logs), ("trace", self.trace)]
        return [(name, where) for name, template in told if template and (where := _filled(template, values))]


NO_LINKS: Final = Links()


def _address(name: str, given: Any, places: tuple[str, ...]) -> str | None:
    if given is None or not str(given).strip():
        return None
    template = str(given).strip()
    parts = urlsplit(template)
    if parts.scheme not in ("http", "https") or not parts.hostname or "{" in parts.netloc:
        raise BadSetting(f"ACTIONBUS_{name} must be an address that begins with http:// or https://, not {template!r}")
    unknown = [each for each in _PLACE.findall(template) if each not in places]
    if unknown:
        there = f"there are: {', '.join(places)}" if places else "none is filled in there"
        raise BadSetting(f"ACTIONBUS_{name} has {{{unknown[0]}}}, which is no place; {there}")
    return template


def _values(found: Mapping[str, Any]) -> dict[str, str]:
    submitted, outcome = found.get("submitted") or {}, found.get("outcome") or found.get("bypass") or {}
    last, context = outcome or submitted, submitted.get("context")
    traced = _TRACE.fullmatch(str(context.get("traceparent", ""))) if isinstance(context, Mapping) else None
    told = {
        "action_id": found.get("action_id"),
        "action": found.get("action"),
        "position": last.get("position"),
        "correlation_id": last.get("correlation_id"),
        "trace_id": traced[1] if traced else None,
        "since": (submitted or last).get("recorded_at"),
        "until": last.get("recorded_at"),
    }
    return {name: str(value) for name, value in told.items() if value}


def _filled(template: str, values: Mapping[str, str]) -> str | None:
    if any(each not in values for each in _PLACE.findall(template)):
        return None
    return _PLACE.sub(lambda place: quote(values[place[1]], safe=""), template)
