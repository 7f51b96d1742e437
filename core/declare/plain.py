"""Takes arguments that are of the very types declared as they are; made for an action by `declare.registry`.

The schema stays the one definition: what is plain is read off its fields, and whatever is not there, or not of exactly
such a type, is left to it, as are all errors. `tests/core/declare/test_plain.py` shows that both say the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from marshmallow import Schema, missing

from actionbus.core.declare.arg_types import ConvertingField

_TYPES: Final = (str, int, float, bool)
"""Their readers give a value of the very type back."""


class Field(NamedTuple):
    """A field that has nothing to do for a value of its type."""

    kind: type
    allows_none: bool
    default: Any
    """`missing` where one must be given or is made anew each time, which is the schema's to do."""


class Plain:
    """Loads values where each of them is plain."""

    def __init__(self, fields: Mapping[str, Field]) -> None:
        self._fields = tuple((name, *field) for name, field in fields.items())

    def load(self, values: Mapping[str, Any]) -> dict[str, Any] | None:
        """What the schema would load; None where that is to be asked."""
        loaded: dict[str, Any] = {}
        given = 0
        for name, kind, allows_none, default in self._fields:
            value = values.get(name, missing)
            if value is missing:
                if default is missing:
                    return None
                value = default
            elif type(value) is kind or (value is None and allows_none):
                given += 1
            else:
                return None
            loaded[name] = value
        return loaded if given == len(values) else None  # the others are unknown


def plain_of(schema: Schema) -> Plain | None:
    """For a schema whose fields are all plain, or None."""
    fields: dict[str, Field] = {}
    for name, field in schema.fields.items():
        if type(field) is not ConvertingField or field.kind not in _TYPES or field.validators:
            return None
        default = missing if field.required or callable(field.load_default) else field.load_default
        fields[name] = Field(field.kind, field.allow_none, default)
    return Plain(fields)
