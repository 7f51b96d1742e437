"""Fields, what a mapping says of a projection's documents: which are text, and what others can be compared as.

Every store asks it, so that what can be filtered, bounded, counted and sorted by is the same in all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final, Literal, NamedTuple

from actionbus.projections.errors import QueryRefused

Kind = Literal["number", "date", "word", "boolean", "other"]
ALL_TEXTS: Final = "*"
"""In place of names where nothing is mapped: all texts are searched then."""
_KINDS: Final[dict[str, Kind]] = {
    **dict.fromkeys(
        ("long", "integer", "short", "byte", "double", "float", "half_float", "scaled_float", "unsigned_long"), "number"
    ),
    "date": "date",
    "date_nanos": "date",
    "boolean": "boolean",
    **dict.fromkeys(("keyword", "constant_keyword", "wildcard"), "word"),
}
"""Of Elasticsearch's types those that every store can compare."""
_PLACES_AND_BYTES: Final = frozenset(
    (
        "geo_point",
        "geo_shape",
        "point",
        "shape",
        "binary",
        "completion",
        "dense_vector",
        "sparse_vector",
        "histogram",
        "rank_feature",
        "rank_features",
        "percolator",
        "search_as_you_type",
    )
)
"""Of its types those whose values are looked up in no way that all stores have."""


_YEAR_OR_MONTH: Final = re.compile(r"[0-9]{4}(-[0-9]{2})?")


_LIMITS: Final = {
    "byte": (-(2**7), 2**7 - 1),
    "short": (-(2**15), 2**15 - 1),
    "integer": (-(2**31), 2**31 - 1),
    "long": (-(2**63), 2**63 - 1),
    "unsigned_long": (0, 2**64 - 1),
    "half_float": (-65504.0, 65504.0),
    "float": (-3.4028234e38, 3.4028234e38),
}
"""The least and the greatest value of Elasticsearch's types of numbers; of all others any number can be one."""


class Field(NamedTuple):
    """A field whose values are kept as they are; `path` is where they stand in the document."""

    kind: Kind
    path: str
    declared: str = ""
    """Its type, by Elasticsearch's name."""

    def holds(self, value: Any) -> bool:
        """Whether a value of this type can be this number; any time and text can be."""
        least, greatest = _LIMITS.get(self.declared, (-math.inf, math.inf))
        return self.kind != "number" or least <= value <= greatest


@dataclass(frozen=True)
class Fields:
    """The fields of a mapping."""

    mappings: Mapping[str, Any]

    @cached_property
    def texts(self) -> list[str]:
        """Those whose words are searched."""
        properties = self.mappings.get("properties", {})
        return [ALL_TEXTS] if not properties else [name for name, each in _all(properties) if each.kind is None]

    @cached_property
    def exact(self) -> dict[str, Field]:
        """Those that can be filtered and counted by."""
        found = _all(self.mappings.get("properties", {}))
        return {name: Field(each.kind, each.path, each.declared) for name, each in found if each.kind is not None}

    @cached_property
    def dates(self) -> list[str]:
        """The fields of a mapping that hold times."""
        return list(dict.fromkeys(each.path for each in self.exact.values() if each.kind == "date"))

    def refuse_undeclared(self, whose: str, fields: Iterable[str]) -> None:
        """Raise QueryRefused unless the mapping declares them all, as fields that are kept as they are and not as text.

        So that what can be filtered and counted by is the same in every store, and nothing that a store has besides.
        """
        for name in fields:
            if name not in self.exact:
                there = ", ".join(sorted(self.exact)) or "none"
                raise QueryRefused(f"{whose} has no field {name[:100]!r} to filter and count by; there are: {there}")

    def sortable(self, name: str) -> Field:
        """A field to sort by. Raises QueryRefused."""
        return self._known(name, "sort by", ("number", "date", "word", "boolean"))

    def comparable(self, name: str, value: Any) -> Any:
        """A bound as the field is compared: a number, text, or milliseconds since 1970. Raises QueryRefused."""
        kind = self._known(name, "bound", ("number", "date", "word")).kind
        return str(value) if kind == "word" else _as_kind(kind, value, f"{name!r} is bounded by")

    def kind_of(self, name: str) -> Kind:
        """How the values of a field are compared; as they are written, where nothing is declared."""
        found = self.exact.get(name)
        return "other" if found is None else found.kind

    def equal(self, name: str, value: Any) -> Any:
        """A filter's value as the field is compared: number, milliseconds since 1970, or text. Raises QueryRefused."""
        text = {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)
        kind = self.kind_of(name)
        if kind == "boolean" and text not in ("true", "false"):
            raise QueryRefused(f"{name[:100]!r} is filtered by true or false, not by {text[:100]!r}")
        return _as_kind(kind, value, f"{name[:100]!r} is filtered by") if kind in ("number", "date") else text

    def _known(self, name: str, purpose: str, kinds: tuple[Kind, ...]) -> Field:
        found = self.exact.get(name)
        if found is None or found.kind not in kinds:
            there = ", ".join(sorted(name for name, each in self.exact.items() if each.kind in kinds)) or "none"
            raise QueryRefused(f"there is no field {name[:100]!r} to {purpose}; there are: {there}")
        return found


class _DeclaredField(NamedTuple):
    kind: Kind | None
    path: str
    declared: str = ""


def _all(properties: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, _DeclaredField]]:
    for name, each in properties.items():
        where = before + name
        kind = each.get("type", "object")
        if kind == "object":
            yield from _all(each.get("properties", {}), f"{where}.")
        elif kind != "nested":
            if found := _declared(each, where):
                yield where, found
            # Another form of the same value, under a name that documents do not have.
            for form, other in each.get("fields", {}).items():
                if (found := _declared(other, where)) and found.kind is not None:
                    yield f"{where}.{form}", found


def _declared(each: Mapping[str, Any], path: str) -> _DeclaredField | None:
    """None for what no store can look up."""
    if each.get("type") == "text":
        return _DeclaredField(None, path)
    if each.get("type") in _PLACES_AND_BYTES:
        return None
    if each.get("index") is False and each.get("doc_values") is False:
        return None
    return _DeclaredField(_KINDS.get(each["type"], "other"), path, each["type"])


def _as_kind(kind: Kind, value: Any, what: str) -> int | float:
    found = milliseconds(value) if kind == "date" else _number(value)
    if found is None:
        wanted = "a time, in ISO 8601 or milliseconds since 1970" if kind == "date" else "a number"
        raise QueryRefused(f"{what} {wanted}, not by {str(value)[:100]!r}")
    return found


def milliseconds(value: Any) -> int | None:
    """Milliseconds since 1970 of such a number, or of ISO 8601, in UTC if it does not say; None if it is no time.

    Four digits are a year, as Elasticsearch has it; a year, month or day is its beginning.
    """
    if isinstance(value, str) and _YEAR_OR_MONTH.fullmatch(value):
        value = f"{value}-01" if "-" in value else f"{value}-01-01"
    if isinstance(value, str) and not value.lstrip("-").isdigit():
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    found = _number(value)
    if isinstance(value, datetime):
        at = value if value.tzinfo else value.replace(tzinfo=UTC)
        found = (at - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000
    return round(found) if found is not None and abs(found) < 253402300800000 else None


def is_number(text: str) -> bool:
    """Whether a text is a finite number."""
    return _number(text) is not None


def _number(value: Any) -> int | float | None:
    """Whole ones beyond 64 bits as the nearest float, which every store can compare."""
    try:
        if isinstance(value, str):
            value = int(value) if value.lstrip("-").isdigit() else float(value)
        if type(value) is int and not -(2**63) <= value < 2**63:
            value = float(value)
    except (ValueError, OverflowError):
        return None
    return value if type(value) in (int, float) and math.isfinite(value) else None
